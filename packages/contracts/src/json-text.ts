const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/**
 * True if JSON text nests arrays and objects deeper than `limit`. Parsing ten megabytes of `[` blocks the event loop for
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

/** True if the text has more than `limit` opening brackets and braces, in strings or not. Few rows have. */
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
function endOfJsonString(json: string, start: number): number {
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

// JavaScript's numbers lose how JSON writes them: 12.50 becomes 12.5, 1.0 becomes 1, and 9007199254740993 another number.

/** A number as JSON writes it. */
export class JsonNumber {
  readonly literal: string;

  /** @param literal - such as `12.50` */
  constructor(literal: string) {
    this.literal = literal;
  }
}

/** The text before a number in JSON. No row, template or conversation contains it. */
const MARK = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const MARKED = new RegExp(`"${MARK}([^"]*)"`, 'g');
/** The start of a string, or a number. */
const TOKEN = /"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * The value that `JSON.parse` makes of a text, but with some numbers as `read` makes them.
 *
 * @param isRead - True for the literals that `read` makes a value of
 * @throws SyntaxError
 */
export function parseNumbers(
  json: string,
  isRead: (literal: string) => boolean,
  read: (literal: string) => unknown,
): unknown {
  const plain: unknown = JSON.parse(json);
  const parts: string[] = [];
  let end = 0;
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(json); match !== null; match = TOKEN.exec(json)) {
    const { 0: token, index } = match;
    if (token === '"') TOKEN.lastIndex = endOfJsonString(json, index) + 1;
    else if (isRead(token)) {
      parts.push(json.slice(end, index), `"${marked(token)}"`);
      end = TOKEN.lastIndex;
    }
  }
  if (parts.length === 0) return plain;
  return JSON.parse(`${parts.join('')}${json.slice(end)}`, (_, value) =>
    typeof value === 'string' && value.startsWith(MARK) ? read(value.slice(MARK.length)) : value,
  );
}

/** The value of JSON, with each number as a {@link JsonNumber}. @throws SyntaxError */
export function parseJsonNumbers(json: string): unknown {
  return parseNumbers(
    json,
    () => true,
    (literal) => new JsonNumber(literal),
  );
}

/** The JSON of a value, in which a {@link JsonNumber} is written as it was. */
export function jsonOfNumbers(value: unknown): string {
  return unmarkedJson(JSON.stringify(value, (_, part) => (part instanceof JsonNumber ? marked(part.literal) : part)));
}

/** A text that stands for a number until {@link unmarkedJson} writes the number as it is here. */
export function marked(number: string): string {
  return `${MARK}${number}`;
}

/** JSON with the numbers that its {@link marked} texts stand for. */
export function unmarkedJson(json: string): string {
  return json.replace(MARKED, '$1');
}
