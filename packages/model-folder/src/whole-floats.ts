import { randomBytes } from 'node:crypto';
import { endOfJsonString } from '@lorasmith/contracts';
import { FloatValue, type JinjaValue } from './chat-template-jinja.js';

/**
 * A number without a fraction that JSON writes with a point or an exponent, such as `1.0`. Python keeps that, and templates
 * print it; JavaScript's `JSON.parse` does not. `JSON.stringify` writes it as the number that it is.
 */
export class WholeFloat extends Number {}

/** The text before a number in JSON. No row, template or conversation contains it. */
const MARK = randomBytes(16).toString('hex');
const MARKED = new RegExp(`"${MARK}([^"]*)"`, 'g');
/** The start of a string, or a number. */
const TOKEN = /"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** The value that `JSON.parse` makes of a text, but with {@link WholeFloat}s. @throws SyntaxError */
export function parseWithWholeFloats(json: string): unknown {
  const plain: unknown = JSON.parse(json);
  const pieces: string[] = [];
  let end = 0;
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(json); match !== null; match = TOKEN.exec(json)) {
    const { 0: token, index } = match;
    if (token === '"') TOKEN.lastIndex = endOfJsonString(json, index) + 1;
    else if (/[.eE]/.test(token) && Number.isInteger(Number(token))) {
      pieces.push(json.slice(end, index), `"${marked(token)}"`);
      end = TOKEN.lastIndex;
    }
  }
  if (pieces.length === 0) return plain;
  return JSON.parse(`${pieces.join('')}${json.slice(end)}`, (_, value) =>
    typeof value === 'string' && value.startsWith(MARK) ? new WholeFloat(value.slice(MARK.length)) : value,
  );
}

/** The JSON of a value, in which a {@link WholeFloat} stays one. */
export function jsonWithWholeFloats(value: unknown): string {
  return unmarkedJson(
    JSON.stringify(value, (_, part) => (part instanceof WholeFloat ? marked(literalOf(part)) : part)),
  );
}

/** A text that stands for a number until {@link unmarkedJson} writes the number as it is here. */
export function marked(number: string): string {
  return `${MARK}${number}`;
}

/** JSON with the numbers that its {@link marked} texts stand for. */
export function unmarkedJson(json: string): string {
  return json.replace(MARKED, '$1');
}

function literalOf(float: WholeFloat): string {
  const value = Number(float);
  const digits = Object.is(value, -0) ? '-0' : String(value);
  return digits.includes('e') ? digits : `${digits}.0`;
}

/** Puts floats into a template's value where the value that it was made of has whole ones, at any depth. */
export function restoreWholeFloats(given: unknown, { value: held }: JinjaValue): void {
  if (typeof given !== 'object' || given === null) return;
  for (const [key, part] of Object.entries(given)) {
    if (part instanceof WholeFloat) {
      const float = new FloatValue(Number(part));
      if (Array.isArray(held)) held[Number(key)] = float;
      else (held as Map<string, JinjaValue>).set(key, float);
    } else if (Array.isArray(held)) restoreWholeFloats(part, held[Number(key)]);
    else restoreWholeFloats(part, (held as Map<string, JinjaValue>).get(key)!);
  }
}
