import { JsonNumber, jsonOfNumbers, nestsDeeperThan, parseJsonNumbers } from '@lorasmith/contracts';
import { GraderError } from './formula.js';

/** An answer to be graded. */
export interface GradedAnswer {
  /** The row of its prompt; a number may be a JsonNumber, which templates write as it stands. */
  item: unknown;
  /** The answer. */
  text: string;
}

/** A text with places for fields of a row and of an answer. */
export interface Template {
  /** @returns the text; where the answer is no JSON, or has no such field, nothing is in its place */
  render(answer: GradedAnswer): string;
  /** The first field that a row lacks, as `item.reference`; null: it has all. */
  missingIn(item: unknown): string | null;
}

/** The template that is the answer itself. */
export const ANSWER = '{{sample.output_text}}';

const PLACE = /\{\{([^{}]*)\}\}/g;
const FIELDS = /^[\w-]+(\.[\w-]+)*$/;

type Part = string | { from: 'item' | 'json'; path: readonly string[]; name: string } | { from: 'text' };

/** @param param the setting that has it. @throws GraderError */
export function parseTemplate(text: string, param: string): Template {
  const parts: Part[] = [];
  let end = 0;
  for (const { 0: place, 1: inner, index } of text.matchAll(PLACE)) {
    parts.push(text.slice(end, index), partOf(inner!.trim(), param));
    end = index + place.length;
  }
  parts.push(text.slice(end));
  const ofRow = parts.flatMap((part) => (typeof part === 'object' && part.from === 'item' ? [part] : []));
  return {
    render: (answer) => parts.map((part) => textOf(part, answer)).join(''),
    missingIn: (item) => ofRow.find(({ path }) => fieldOf(item, path) === undefined)?.name ?? null,
  };
}

function partOf(name: string, param: string): Part {
  if (name === 'sample.output_text') return { from: 'text' };
  const [, source, fields] = /^(item|sample\.output_json)\.(.+)$/.exec(name) ?? [];
  if (fields !== undefined && FIELDS.test(fields)) {
    return { from: source === 'item' ? 'item' : 'json', path: fields.split('.'), name };
  }
  const known = '{{item.FIELD}}, {{sample.output_text}} and {{sample.output_json.FIELD}}';
  throw new GraderError(param, `There is no {{${name.slice(0, 100)}}}: templates have ${known}.`);
}

function textOf(part: Part, { item, text }: GradedAnswer): string {
  if (typeof part === 'string') return part;
  if (part.from === 'text') return text;
  const value = fieldOf(part.from === 'item' ? item : parsed(text), part.path);
  if (value === undefined) return '';
  return typeof value === 'string' ? value : jsonOfNumbers(value);
}

/** Deeper answers are no JSON: writing one would need more stack than there is. */
const MAX_ANSWER_DEPTH = 512;

function parsed(text: string): unknown {
  if (nestsDeeperThan(MAX_ANSWER_DEPTH, text)) return undefined;
  try {
    return parseJsonNumbers(text);
  } catch {
    return undefined;
  }
}

function fieldOf(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, key) => {
    const isObject =
      typeof inner === 'object' && inner !== null && !(inner instanceof JsonNumber) && Object.hasOwn(inner, key);
    return isObject ? (inner as Record<string, unknown>)[key] : undefined;
  }, value);
}

/** A number with an optional sign, thousands separators, a fraction and an exponent. The minus of typesetting (U+2212) is one. */
const NUMBER =
  /[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+\u2212]?\d+)?|[-+\u2212]?\.\d+(?:e[-+\u2212]?\d+)?/gi;
const PARTS = /^([-+]?)(\d*)(?:\.(\d+))?(?:e([-+]?\d+))?$/i;
/** Longer ones are no numbers that anyone compares. */
const MAX_CHARACTERS = 100;
/** So that the digits of a number stay few: JavaScript's numbers end at 308. */
const MAX_EXPONENT = 1_000;

/** A decimal number as it is written: `digits` × 10^`exponent`. */
export interface Decimal {
  digits: bigint;
  exponent: number;
}

/** The last number in a text; null: there is none. A comma between three digits and three is a separator of thousands. */
export function lastNumberIn(text: string): Decimal | null {
  const last = text.match(NUMBER)?.at(-1);
  return last === undefined || last.length > MAX_CHARACTERS ? null : decimalOf(last);
}

/** True if two numbers differ by at most the tolerance, all three as they are written: 0.31 is within 0.01 of 0.3. */
export function areWithin(tolerance: number, one: Decimal, other: Decimal): boolean {
  const most = decimalOf(String(tolerance));
  if (most === null) return false;
  const exponent = Math.min(one.exponent, other.exponent, most.exponent);
  const scaled = (decimal: Decimal) => decimal.digits * 10n ** BigInt(decimal.exponent - exponent);
  const difference = scaled(one) - scaled(other);
  return (difference < 0n ? -difference : difference) <= scaled(most);
}

/** Null for an exponent beyond those that are compared. */
function decimalOf(literal: string): Decimal | null {
  const text = literal.replaceAll(',', '').replaceAll('\u2212', '-');
  const [, sign = '', whole = '', fraction = '', power = '0'] = PARTS.exec(text) ?? [];
  const digits = BigInt(`${sign === '-' ? '-' : ''}${whole}${fraction}`);
  if (digits === 0n) return { digits, exponent: 0 };
  const exponent = Number(power) - fraction.length;
  return Math.abs(exponent) <= MAX_EXPONENT ? { digits, exponent } : null;
}
