import * as library from '@huggingface/jinja';

/** The result of an expression or statement of a template. */
export interface JinjaValue {
  readonly type: string;
  value: unknown;
  /** The methods and fields that a template can use. */
  readonly builtins: ReadonlyMap<string, JinjaValue>;
  /** The greatest length in characters, of a text that is not known. The library's values have none. */
  readonly maxLength?: number;
  /** The text that a template prints. */
  toString(): string;
}

export interface JinjaEnvironment {
  /** Declares a variable with a JavaScript value. */
  set(name: string, value: unknown): JinjaValue;
}

/** A statement or an expression. */
export interface JinjaNode {
  readonly type: string;
}

export interface JinjaInterpreter {
  run(program: JinjaNode): JinjaValue;
  /** Called for every statement and expression. */
  evaluate(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue;
  /** Evaluates statements and joins what they print. */
  evaluateBlock(statements: readonly JinjaNode[], environment: JinjaEnvironment): JinjaValue;
}

interface JinjaLibrary {
  /** Looks names up in its parent that it does not know. */
  Environment: new (
    parent?: JinjaEnvironment,
  ) => JinjaEnvironment;
  Interpreter: new (environment: JinjaEnvironment) => JinjaInterpreter;
  tokenize: (source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }) => unknown[];
  parse: (tokens: unknown[]) => JinjaNode;
}

/**
 * The parts of `@huggingface/jinja` 0.5 that Lorasmith uses, with their types. The library's own type files import each
 * other without file extensions, which TypeScript cannot resolve in an ES module.
 *
 * What follows is not documented by the library: the forms of its statements and values. No other file knows them, and
 * jinja-library.test.ts fails if they change.
 */
export const { Environment, Interpreter, tokenize, parse } = library as unknown as JinjaLibrary;

export interface BinaryExpression extends JinjaNode {
  operator: { value: string };
  left: JinjaNode;
  right: JinjaNode;
}
export interface FilterExpression extends JinjaNode {
  operand: JinjaNode;
  filter: JinjaNode & { value?: unknown };
}
export interface For extends JinjaNode {
  body: readonly JinjaNode[];
  defaultBlock: readonly JinjaNode[];
}
interface ObjectLiteral extends JinjaNode {
  value: Map<JinjaNode, JinjaNode>;
}
interface MemberExpression extends JinjaNode {
  object: JinjaNode;
  property: JinjaNode;
  computed: boolean;
}
interface CallExpression extends JinjaNode {
  callee: JinjaNode & { object: JinjaNode; computed: boolean; property: { value: unknown } };
  args: readonly JinjaNode[];
}

/** An operand that was evaluated. An interpreter that is given one returns its value. */
export class Evaluated implements JinjaNode {
  readonly type = 'Evaluated';
  readonly value: JinjaValue;

  constructor(value: JinjaValue) {
    this.value = value;
  }
}

/** `object.method(arguments)`. */
export interface MethodCall {
  object: JinjaNode;
  method: string;
  args: readonly JinjaNode[];
  /** The same call, of an object that was evaluated. */
  on(object: JinjaValue): JinjaNode;
}

export function methodCallOf(statement: JinjaNode | undefined): MethodCall | null {
  if (statement?.type !== 'CallExpression') return null;
  const { callee, args } = statement as CallExpression;
  if (callee.type !== 'MemberExpression' || callee.computed || typeof callee.property.value !== 'string') return null;
  const on = (object: JinjaValue) =>
    ({ ...statement, callee: { ...callee, object: new Evaluated(object) } }) as JinjaNode;
  return { object: callee.object, method: callee.property.value, args, on };
}

/** The name of a filter, with or without arguments; null of what the library does not know. */
export function filterName({ filter }: FilterExpression): string | null {
  const { type, value, callee } = filter as JinjaNode & { value?: unknown; callee?: { value?: unknown } };
  const name = type === 'CallExpression' ? callee?.value : value;
  return typeof name === 'string' ? name : null;
}

/** True if a filter has more than one argument, or one with a name. */
export function hasFurtherArguments({ filter }: FilterExpression): boolean {
  const { args = [] } = filter as JinjaNode & { args?: readonly JinjaNode[] };
  return args.length > 1 || args.some(({ type }) => type === 'KeywordArgumentExpression');
}

/** The same expression, of operands that were evaluated. */
export function withOperands<Expression extends JinjaNode>(
  expression: Expression,
  operands: Partial<Record<keyof Expression, JinjaValue>>,
): Expression {
  const evaluated = Object.entries(operands).map(([name, value]) => [name, new Evaluated(value as JinjaValue)]);
  return { ...expression, ...Object.fromEntries(evaluated) };
}

const probes = new Environment();
/** The library's value of a text. */
export const StringValue = probes.set('text', '').constructor as new (value: string) => JinjaValue;
/** The library's value of true or false. */
export const BooleanValue = probes.set('boolean', true).constructor as new (value: boolean) => JinjaValue;

const IntegerValue = probes.set('integer', 1).constructor as new (value: number) => JinjaValue;
/** The library's value of a list. */
export const ArrayValue = probes.set('list', []).constructor as new (value: readonly JinjaValue[]) => JinjaValue;
/** The library's value of an object. */
export const ObjectValue = probes.set('object', {}).constructor as new (value: Map<string, JinjaValue>) => JinjaValue;
/** The library's value of a number with a fraction, or written with one, such as `1.0`. */
export const FloatValue = probes.set('float', 0.5).constructor as new (value: number) => JinjaValue;
const FunctionValue = probes.set('function', () => null).constructor as new (call: () => JinjaValue) => JinjaValue;

/**
 * The object of a literal whose keys are all integers, which the library refuses and Seed-OSS's template has; null of another statement.
 * Its keys are texts in the library's value, and integers in what its items and `dictsort` give.
 */
export function integerKeyedObject(
  statement: JinjaNode | undefined,
  evaluate: (expression: JinjaNode) => JinjaValue,
): JinjaValue | null {
  if (statement?.type !== 'ObjectLiteral') return null;
  const pairs = [...(statement as ObjectLiteral).value];
  const isInteger = ([key]: [JinjaNode, JinjaNode]) => key.type === 'IntegerLiteral';
  if (pairs.length === 0 || !pairs.every(isInteger)) return null;
  const entries = pairs.map(([key, value]) => [evaluate(key), evaluate(value)] as const);
  const object = new ObjectValue(new Map(entries.map(([key, value]) => [String(key.value), value])));
  const listed = (shown: typeof entries) =>
    new FunctionValue(() => new ArrayValue(shown.map((pair) => new ArrayValue(pair))));
  const builtins = object.builtins as Map<string, JinjaValue>;
  builtins.set('items', listed(entries));
  builtins.set('dictsort', listed(entries.toSorted(([a], [b]) => Number(a.value) - Number(b.value))));
  return object;
}

/** `object[property]` with operands that were evaluated; null of another expression. */
export function memberOf(
  statement: JinjaNode | undefined,
  evaluate: (expression: JinjaNode) => JinjaValue,
): { object: JinjaValue; property: JinjaValue; expression: JinjaNode } | null {
  if (statement?.type !== 'MemberExpression') return null;
  const member = statement as MemberExpression;
  if (!member.computed || member.property.type === 'SliceExpression') return null;
  const operands = { object: evaluate(member.object), property: evaluate(member.property) };
  return { ...operands, expression: withOperands(member, operands) };
}

/** The value under an integer key of such an object; null where there is none. */
export function valueAtInteger(object: JinjaValue, key: JinjaValue): JinjaValue | null {
  const known =
    key instanceof IntegerValue ? (object.value as Map<string, JinjaValue>).get(String(key.value)) : undefined;
  return known ?? null;
}

/** The library's value of a statement that prints nothing. */
export const NOTHING = probes.set('nothing', null);

/** The text of a value; null of a value that is no text. */
export function textOfValue({ type, value }: JinjaValue): string | null {
  return type === 'StringValue' && typeof value === 'string' ? value : null;
}

/** Statements without a value, to which the library gives that of none. */
const WITHOUT_VALUE = new Set(['Set', 'Macro', 'Comment', 'Continue', 'Break']);

/** True if a template prints the value of a statement. */
export function isPrinted({ type }: JinjaValue, statement: JinjaNode): boolean {
  return type !== 'UndefinedValue' && !(type === 'NullValue' && WITHOUT_VALUE.has(statement.type));
}

/** True of a value whose contents can change. */
export function isNamespace({ type }: JinjaValue): boolean {
  return type === 'NamespaceValue';
}

/** The values in a list or an object; null of another value. */
export function elementsOf({ value }: JinjaValue): Iterable<JinjaValue> | null {
  return Array.isArray(value) ? value : value instanceof Map ? value.values() : null;
}

/** Replaces fields of each object of a list that has them. */
export function replaceFields<Name extends string>(
  list: JinjaValue,
  names: readonly Name[],
  value: (index: number, name: Name) => JinjaValue,
): void {
  const objects = list.value as { value: Map<string, JinjaValue> }[];
  for (const [index, { value: fields }] of objects.entries()) {
    for (const name of names) if (fields.has(name)) fields.set(name, value(index, name));
  }
}

/** A text that is not known. All that can be done with it is to ask whether it is empty; the rest throws. */
export abstract class UnknownText extends StringValue {
  override readonly maxLength: number;

  constructor(maxLength: number) {
    super('');
    this.maxLength = maxLength;
    // The library reads the text of every value as `value`.
    Object.defineProperty(this, 'value', { get: unknown });
  }

  abstract isNotEmpty(): boolean;

  override get builtins() {
    return unknown();
  }

  override toString() {
    return unknown();
  }

  /** True if the value counts as true; the library calls it. */
  __bool__() {
    return new BooleanValue(this.isNotEmpty());
  }
}

/** @throws Error always: a template that comes here has no skeleton */
export function unknown(): never {
  throw new Error('the text depends on the contents of messages');
}
