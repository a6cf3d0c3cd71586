import { marked, parseNumbers, unmarkedJson } from '@lorasmith/contracts';
import { FloatValue, type JinjaValue } from './chat-template-jinja.js';

/**
 * A number without a fraction that JSON writes with a point or an exponent, such as `1.0`. Python keeps that, and templates
 * print it; JavaScript's `JSON.parse` does not. `JSON.stringify` writes it as the number that it is.
 */
export class WholeFloat extends Number {}

/** The value that `JSON.parse` makes of a text, but with {@link WholeFloat}s. @throws SyntaxError */
export function parseWithWholeFloats(json: string): unknown {
  const isWhole = (literal: string) => /[.eE]/.test(literal) && Number.isInteger(Number(literal));
  return parseNumbers(json, isWhole, (literal) => new WholeFloat(literal));
}

/** The JSON of a value, in which a {@link WholeFloat} stays one. */
export function jsonWithWholeFloats(value: unknown): string {
  return unmarkedJson(
    JSON.stringify(value, (_, part) => (part instanceof WholeFloat ? marked(literalOf(part)) : part)),
  );
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
