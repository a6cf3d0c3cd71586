import { marked, parseNumbers, unmarkedJson } from '@lorasmith/contracts';
import {
  ArrayValue,
  type BinaryExpression,
  BooleanValue,
  type FilterExpression,
  FloatValue,
  filterName,
  hasFurtherArguments,
  type JinjaNode,
  type JinjaValue,
  methodCallOf,
  ObjectValue,
  StringValue,
  textOfValue,
  UnknownText,
  withOperands,
} from './jinja-library.js';

// What templates print and compare as Python does, and JavaScript or the library do otherwise.

/** Filters that make a text of what is none. */
const TEXT_FILTERS = new Set(['string', 'trim', 'upper', 'lower', 'title', 'capitalize']);

/**
 * Evaluates what the library does otherwise than Python: equality, texts of values that are none, white space, and floats in JSON.
 *
 * @param library evaluates an expression as the library does
 * @returns null for any other statement
 */
export function evaluatedAsPython(
  statement: JinjaNode | undefined,
  evaluate: (expression: JinjaNode) => JinjaValue,
  library: (expression: JinjaNode) => JinjaValue,
): JinjaValue | null {
  if (statement?.type === 'BinaryExpression') {
    const { operator, left, right } = statement as BinaryExpression;
    const { value: name } = operator;
    if (name === '~') return new StringValue(`${pythonText(evaluate(left))}${pythonText(evaluate(right))}`);
    if (name !== '==' && name !== '!=') return null;
    return new BooleanValue(areEqual(evaluate(left), evaluate(right)) === (name === '=='));
  }
  if (statement?.type !== 'FilterExpression') return null;
  const expression = statement as FilterExpression;
  const name = filterName(expression);
  const applied = (operand: JinjaValue) => library(withOperands(expression, { operand }));
  if (name === 'tojson') {
    const operand = evaluate(expression.operand);
    const withMarks = withMarkedFloats(operand);
    const json = applied(withMarks);
    return withMarks === operand ? json : new StringValue(unmarkedJson(json.value as string));
  }
  if (name === 'join' && !hasFurtherArguments(expression)) return applied(withTexts(evaluate(expression.operand)));
  if (name === null || !TEXT_FILTERS.has(name)) return null;
  const operand = evaluate(expression.operand);
  if (operand instanceof UnknownText) return applied(operand);
  const text = pythonText(operand);
  if (name === 'string') return new StringValue(text);
  return name === 'trim' ? new StringValue(stripped(text)) : applied(new StringValue(text));
}

/** Equality in Python: a text equals no number, and nothing but none equals none. Lists and objects are equal if their parts are. */
function areEqual(a: JinjaValue, b: JinjaValue): boolean {
  if (a === b) return true;
  if (NUMERIC.has(a.type) && NUMERIC.has(b.type)) return Number(a.value) === Number(b.value);
  if (a.type !== b.type) return false;
  if (a.type === 'ArrayValue') {
    const [parts, others] = [a.value as readonly JinjaValue[], b.value as readonly JinjaValue[]];
    return parts.length === others.length && parts.every((part, index) => areEqual(part, others[index]!));
  }
  if (a.type !== 'ObjectValue') return a.value === b.value;
  const [fields, others] = [a.value as Map<string, JinjaValue>, b.value as Map<string, JinjaValue>];
  const isIn = ([key, part]: [string, JinjaValue]) => others.has(key) && areEqual(part, others.get(key)!);
  return fields.size === others.size && [...fields].every(isIn);
}

/** Python counts true as 1 and false as 0. */
const NUMERIC = new Set(['BooleanValue', 'IntegerValue', 'FloatValue']);

/** The value with its floats as marked texts where JavaScript would write them otherwise; the same if there are none. */
function withMarkedFloats(value: JinjaValue): JinjaValue {
  const { type } = value;
  if (type === 'FloatValue') {
    const text = pythonFloat(value.value as number);
    return text === JSON.stringify(value.value) ? value : new StringValue(marked(text));
  }
  if (type === 'ArrayValue') {
    const parts = value.value as readonly JinjaValue[];
    const copies = parts.map(withMarkedFloats);
    return copies.every((part, index) => part === parts[index]) ? value : new ArrayValue(copies);
  }
  if (type !== 'ObjectValue') return value;
  const entries = [...(value.value as Map<string, JinjaValue>)];
  const copies = entries.map(([key, part]) => [key, withMarkedFloats(part)] as const);
  return copies.every(([, part], index) => part === entries[index]![1]) ? value : new ObjectValue(new Map(copies));
}

/** A list with the texts of its parts. */
function withTexts(value: JinjaValue): JinjaValue {
  if (value.type !== 'ArrayValue') return value;
  const parts = value.value as readonly JinjaValue[];
  return new ArrayValue(parts.map((part) => (part instanceof StringValue ? part : new StringValue(pythonText(part)))));
}

/** The text that Python's `str` makes of a value of a template: `True`, `None`, `1.0`, `['a', 1]`. That of an undefined value is empty. */
export function pythonText(value: JinjaValue): string {
  return value.type === 'UndefinedValue' ? '' : (textOfValue(value) ?? pythonRepr(value));
}

function pythonRepr(value: JinjaValue): string {
  const { type, value: content } = value;
  if (typeof content === 'string') return quoted(content);
  if (typeof content === 'boolean') return content ? 'True' : 'False';
  if (type === 'NullValue') return 'None';
  if (type === 'FloatValue') return pythonFloat(content as number);
  if (type === 'ArrayValue') return `[${(content as JinjaValue[]).map(pythonRepr).join(', ')}]`;
  if (type !== 'ObjectValue') return value.toString();
  const entries = [...(content as Map<string, JinjaValue>)];
  return `{${entries.map(([key, part]) => `${quoted(key)}: ${pythonRepr(part)}`).join(', ')}}`;
}

/** A number as Python's `repr` and `json.dumps` write a float. Python changes to exponents elsewhere than JavaScript, with two digits. */
export function pythonFloat(value: number): string {
  const [digits, power] = value.toExponential().split('e');
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    return `${digits}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  const text = Object.is(value, -0) ? '-0' : String(value);
  return Number.isInteger(value) ? `${text}.0` : text;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A text as Python writes it in a list: in single quotes, unless it has these and no double ones. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\\p{C}\p{Z}]/gu, (character) => (character === ' ' ? ' ' : escapeOf(character)));
  return `${quote}${escaped.replaceAll(quote, `\\${quote}`)}${quote}`;
}

function escapeOf(character: string): string {
  const code = character.codePointAt(0)!;
  const [letter, length] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8];
  return ESCAPES[character] ?? `\\${letter}${code.toString(16).padStart(length, '0')}`;
}

type Strip = 'strip' | 'lstrip' | 'rstrip';

/** The characters that Python strips from a text. JavaScript also strips U+FEFF, and leaves U+001C to U+001F and U+0085. */
export const WHITE_SPACE: ReadonlySet<string> = new Set(
  '\t\n\v\f\r\x1C\x1D\x1E\x1F \x85\xA0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000',
);

export function isStrip(name: string): name is Strip {
  return /^[lr]?strip$/.test(name);
}

/**
 * Evaluates `text.strip()`, `lstrip` or `rstrip`, also with characters, as Python does. The library ignores the characters.
 *
 * @returns null for any other statement, and if the object or the argument is not a string
 */
export function stripCharacters(
  statement: JinjaNode | undefined,
  evaluate: (expression: JinjaNode) => JinjaValue,
): JinjaValue | null {
  const call = methodCallOf(statement);
  if (call === null || call.args.length > 1 || !isStrip(call.method)) return null;
  const text = textOfValue(evaluate(call.object));
  const [argument] = call.args;
  const characters = argument === undefined ? WHITE_SPACE : charactersOf(evaluate(argument));
  if (text === null || characters === null) return null;
  return new StringValue(stripped(text, characters, call.method));
}

function charactersOf(value: JinjaValue): ReadonlySet<string> | null {
  const text = textOfValue(value);
  return text === null ? null : new Set(text);
}

/** A text without these characters at its start, its end, or both. */
export function stripped(text: string, characters: ReadonlySet<string> = WHITE_SPACE, which: Strip = 'strip'): string {
  let start = 0;
  let end = text.length;
  while (which !== 'rstrip' && start < end) {
    const first = String.fromCodePoint(text.codePointAt(start)!);
    if (!characters.has(first)) break;
    start += first.length;
  }
  while (which !== 'lstrip' && start < end) {
    const last = /[\uDC00-\uDFFF]/.test(text[end - 1]!) ? text.slice(end - 2, end) : text[end - 1]!;
    if (!characters.has(last)) break;
    end -= last.length;
  }
  return text.slice(start, end);
}

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
export function restoreWholeFloats(given: unknown, { value: target }: JinjaValue): void {
  if (typeof given !== 'object' || given === null) return;
  for (const [key, part] of Object.entries(given)) {
    if (part instanceof WholeFloat) {
      const float = new FloatValue(Number(part));
      if (Array.isArray(target)) target[Number(key)] = float;
      else (target as Map<string, JinjaValue>).set(key, float);
    } else if (Array.isArray(target)) restoreWholeFloats(part, target[Number(key)]);
    else restoreWholeFloats(part, (target as Map<string, JinjaValue>).get(key)!);
  }
}
