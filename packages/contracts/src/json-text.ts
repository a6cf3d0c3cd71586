const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/**
 * Whether JSON text nests arrays and objects deeper than `limit`. Parsing ten megabytes of `[` blocks the event loop for
 * seconds; this function reads the text once, skips what is in strings, and stops at the limit.
 */
export function nestsDeeperThan(limit: number, json: string): boolean {
  if (!hasMoreOpening(limit, json)) return false;
  let depth = 0;
  for (let i = 0; i < json.length; i++) {
    const code = json.charCodeAt(i);
    if (code === QUOTE) {
      i = endOfJsonString(json, i);
    } else if (code === OPEN_BRACKET || code === OPEN_BRACE) {
      if (++depth > limit) return true;
    } else if (code === CLOSE_BRACKET || code === CLOSE_BRACE) depth--;
  }
  return false;
}

/** Whether the text has more than `limit` opening brackets and braces, in strings or not. Few rows have. */
function hasMoreOpening(limit: number, json: string): boolean {
  let count = 0;
  for (const opening of ['{', '[']) {
    for (let i = json.indexOf(opening); i !== -1; i = json.indexOf(opening, i + 1)) {
      if (++count > limit) return true;
    }
  }
  return false;
}

/** Index of the quote that ends the string which begins at `start`; the length of the text if there is none. */
export function endOfJsonString(json: string, start: number): number {
  for (let end = json.indexOf('"', start + 1); end !== -1; end = json.indexOf('"', end + 1)) {
    let last = end - 1;
    while (json[last] === '\\') last--;
    // After an odd number of backslashes, the quote is part of the string.
    if ((end - last) % 2 === 1) return end;
  }
  return json.length;
}

/** The values of an object's members by their keys, each as the text that it has in valid JSON. Of equal keys the last one counts. */
export function memberTexts(json: string): Map<string, string> {
  const members = new Map<string, string>();
  for (let at = json.indexOf('"'); at !== -1; at = json.indexOf('"', at)) {
    const endOfKey = endOfJsonString(json, at) + 1;
    const start = json.indexOf(':', endOfKey) + 1;
    const end = endOfValue(json, start);
    members.set(JSON.parse(json.slice(at, endOfKey)) as string, json.slice(start, end).trim());
    at = end;
  }
  return members;
}

/** Index of the comma or bracket that ends the value which begins at `start`. */
function endOfValue(json: string, start: number): number {
  let depth = 0;
  for (let i = start; i < json.length; i++) {
    const code = json.charCodeAt(i);
    if (code === QUOTE) i = endOfJsonString(json, i);
    else if (code === OPEN_BRACKET || code === OPEN_BRACE) depth++;
    else if (code === CLOSE_BRACKET || code === CLOSE_BRACE) {
      if (depth-- === 0) return i;
    } else if (code === COMMA && depth === 0) return i;
  }
  return json.length;
}
