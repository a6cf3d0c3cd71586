import * as library from '@huggingface/jinja';

/** The result of an expression or statement of a template. */
export interface JinjaValue {
  readonly type: string;
  value: unknown;
  /** The methods and fields that a template can use. */
  readonly builtins: ReadonlyMap<string, JinjaValue>;
  /** How long it may be, of a text that is not known. The library's values have none. */
  readonly weight?: number;
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
 * chat-template-jinja.test.ts fails if they change.
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

/** The library's value of a statement that prints nothing. */
export const NOTHING = probes.set('nothing', null);

/** The text of a value; null of a value that is no text. */
export function textOfValue({ type, value }: JinjaValue): string | null {
  return type === 'StringValue' && typeof value === 'string' ? value : null;
}

/** Whether a template prints the value. */
export function isPrinted({ type }: JinjaValue): boolean {
  return type !== 'NullValue' && type !== 'UndefinedValue';
}

/** Whether what the value holds can change. */
export function isNamespace({ type }: JinjaValue): boolean {
  return type === 'NamespaceValue';
}

/** The values that a list or an object holds; null of another value. */
export function heldValues({ value }: JinjaValue): Iterable<JinjaValue> | null {
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
  override readonly weight: number;

  constructor(weight: number) {
    super('');
    this.weight = weight;
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

  /** The library's name for whether a value counts as true. */
  __bool__() {
    return new BooleanValue(this.isNotEmpty());
  }
}

/** @throws Error always: a template that comes here has no outline */
export function unknown(): never {
  throw new Error('the text depends on the contents of messages');
}
