import { marked, unmarkedJson } from '@lorasmith/contracts';
import {
  ArrayValue,
  type BinaryExpression,
  BooleanValue,
  type FilterExpression,
  filterName,
  hasFurtherArguments,
  type JinjaNode,
  type JinjaValue,
  ObjectValue,
  StringValue,
  UnknownText,
  withOperands,
} from './chat-template-jinja.js';
import { pythonFloat, pythonText } from './python-text.js';
import { stripped } from './template-strip.js';

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
