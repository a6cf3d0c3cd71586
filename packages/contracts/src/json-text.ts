const QUOTE = 0x22;
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
