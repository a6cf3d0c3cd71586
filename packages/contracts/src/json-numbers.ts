import { endOfJsonString } from './json-text.js';

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
