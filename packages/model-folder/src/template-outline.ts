import { randomBytes } from 'node:crypto';
import type { Message } from '@lorasmith/contracts';
import { BoundedInterpreter } from './bounded-interpreter.js';
import { Environment, type JinjaEnvironment, type JinjaNode, type JinjaValue } from './chat-template-jinja.js';
import { isStrip, stripped } from './template-strip.js';

/** What a template makes of conversations that differ only in the contents of their messages. */
export class TemplateOutline {
  readonly #decisions: readonly Decision[];
  readonly #parts: readonly Part[] | null;

  /** @param parts null for conversations whose text depends on the contents in a way that an outline cannot say */
  constructor(decisions: readonly Decision[], parts: readonly Part[] | null) {
    this.#decisions = decisions;
    this.#parts = parts;
  }

  /** Whether the template decides for these contents as for those that it was outlined with. */
  fits(messages: readonly Message[]): boolean {
    return this.#decisions.every(({ parts, test, isTrue }) => test(textOf(parts, messages)) === isTrue);
  }

  /** The text for contents that fit; null when the interpreter has to render it. */
  fill(messages: readonly Message[]): string | null {
    return this.#parts && textOf(this.#parts, messages);
  }
}

/** A literal text, the content of the n-th message, or what a function makes of other parts: never a longer text. */
type Part = string | number | { of: readonly Part[]; change(text: string): string };

/** What a template asks of a text that is not known, and the answer. */
interface Decision {
  parts: readonly Part[];
  test(text: string): boolean;
  isTrue: boolean;
}

function textOf(parts: readonly Part[], messages: readonly Message[]): string {
  let text = '';
  for (const part of parts) {
    if (typeof part === 'string') text += part;
    else if (typeof part === 'number') text += messages[part]!.content;
    else text += part.change(textOf(part.of, messages));
  }
  return text;
}

/** Longer contents, of which one could exceed a limit of the interpreter, are rendered without an outline. */
export const MAX_OUTLINED_CONTENT = 65_536;
/** A tenth of the interpreter's limit: a template that does more is not worth the attempt. */
const MAX_OUTLINE_STEPS = 20_000;

/**
 * Renders a conversation with placeholders instead of contents. A placeholder can be joined with other texts, printed, and
 * stripped; whether it is empty, equals a text, contains it, or begins or ends with it, is decided by the contents, and the
 * outline only fits contents of which the same is true. Anything else that a template does with a placeholder ends the
 * attempt: the library reads the text of every value as `value`, and a placeholder throws when that is read.
 *
 * So the template does the same steps with all contents that fit. Each placeholder counts as the longest content that is
 * allowed, so no contents exceed a limit that the placeholders do not.
 *
 * @param variables besides the messages
 */
export function outlineTemplate(
  program: JinjaNode,
  messages: readonly Message[],
  variables: JinjaEnvironment,
): TemplateOutline {
  const decisions: Decision[] = [];
  const decide: Decide = (parts, test) => {
    const isTrue = test(textOf(parts, messages));
    decisions.push({ parts, test, isTrue });
    return isTrue;
  };
  try {
    const environment = new Environment(variables);
    const list = environment.set('messages', messages) as JinjaValue & { value: { value: Map<string, JinjaValue> }[] };
    // No template can name these variables.
    const StringValue = environment.set('any text', '').constructor as ValueType;
    const BooleanValue = environment.set('any boolean', true).constructor as ValueType;
    const Placeholder = placeholderClass({ StringValue, BooleanValue, decide });
    for (const [index, { value: fields }] of list.value.entries()) fields.set('content', new Placeholder([index]));
    const types = { StringValue, BooleanValue, Placeholder };
    const result = new OutliningInterpreter(environment, types, decide).run(program);
    return new TemplateOutline(decisions, partsOf(result, Placeholder));
  } catch {
    // Or the template failed: then the interpreter says why.
    return new TemplateOutline(decisions, null);
  }
}

type Decide = (parts: readonly Part[], test: (text: string) => boolean) => boolean;
type ValueType = new (value: string | boolean) => JinjaValue;
type PlaceholderType = new (parts: readonly Part[]) => JinjaValue & { readonly parts: readonly Part[] };
interface Types {
  StringValue: ValueType;
  BooleanValue: ValueType;
  Placeholder: PlaceholderType;
}

/** A text of the library with parts that are not known. */
function placeholderClass(types: Omit<Types, 'Placeholder'> & { decide: Decide }): PlaceholderType {
  const { StringValue, BooleanValue, decide } = types;
  return class extends StringValue {
    readonly parts: readonly Part[];
    override readonly weight: number;

    constructor(parts: readonly Part[]) {
      super('');
      this.parts = parts;
      this.weight = longest(parts);
      Object.defineProperty(this, 'value', { get: unknown });
    }

    override get builtins() {
      return unknown();
    }

    override toString() {
      return unknown();
    }

    /** The library's name for whether a value counts as true. */
    __bool__() {
      return new BooleanValue(decide(this.parts, (text) => text !== ''));
    }
  };
}

function longest(parts: readonly Part[]): number {
  return parts.reduce<number>((sum, part) => {
    if (typeof part === 'string') return sum + part.length;
    return sum + (typeof part === 'number' ? MAX_OUTLINED_CONTENT : longest(part.of));
  }, 0);
}

function unknown(): never {
  throw new Error('the text depends on the contents of messages');
}

function literalOf({ type, value }: JinjaValue): string {
  return type === 'StringValue' && typeof value === 'string' ? value : unknown();
}

function partsOf(value: JinjaValue, Placeholder: PlaceholderType): readonly Part[] {
  if (value instanceof Placeholder) return value.parts;
  return typeof value.value === 'string' ? [value.value] : unknown();
}

interface BinaryExpression extends JinjaNode {
  operator: { value: string };
  left: JinjaNode;
  right: JinjaNode;
}
interface FilterExpression extends JinjaNode {
  operand: JinjaNode;
  filter: JinjaNode & { value?: unknown };
}
interface CallExpression extends JinjaNode {
  callee: JinjaNode & { object?: JinjaNode; computed?: boolean; property?: { value?: unknown } };
  args: readonly JinjaNode[];
}
interface For extends JinjaNode {
  body: readonly JinjaNode[];
  defaultBlock: readonly JinjaNode[];
}

/** Tests of a text that is not known and one that is. */
const TESTS: Readonly<Record<string, (text: string, known: string) => boolean>> = {
  '==': (text, known) => text === known,
  '!=': (text, known) => text !== known,
  in: (text, known) => text.includes(known),
  'not in': (text, known) => !text.includes(known),
  startswith: (text, known) => text.startsWith(known),
  endswith: (text, known) => text.endsWith(known),
};

/** An operand that was evaluated. */
class Evaluated implements JinjaNode {
  readonly type = 'Evaluated';
  readonly value: JinjaValue;

  constructor(value: JinjaValue) {
    this.value = value;
  }
}

/** The operations on placeholders; everything else is the library's. */
class OutliningInterpreter extends BoundedInterpreter {
  readonly #StringValue: ValueType;
  readonly #BooleanValue: ValueType;
  readonly #Placeholder: PlaceholderType;
  readonly #decide: Decide;
  /** Blocks of loops. The library joins their texts, so they are marked in a text for that long. */
  readonly #loopBlocks = new Set<readonly JinjaNode[]>();
  readonly #marked: (readonly Part[])[] = [];
  /** Not known to the template. */
  readonly #mark = `\0${randomBytes(16).toString('hex')}\0`;

  constructor(environment: JinjaEnvironment, types: Types, decide: Decide) {
    super(environment, MAX_OUTLINE_STEPS);
    this.#StringValue = types.StringValue;
    this.#BooleanValue = types.BooleanValue;
    this.#Placeholder = types.Placeholder;
    this.#decide = decide;
  }

  protected override evaluateStep(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue {
    if (statement instanceof Evaluated) return statement.value;
    switch (statement?.type) {
      case 'BinaryExpression':
        return this.#evaluateBinary(statement as BinaryExpression, environment);
      case 'FilterExpression':
        return this.#evaluateFilter(statement as FilterExpression, environment);
      case 'CallExpression':
        return this.#evaluateCall(statement as CallExpression, environment);
      case 'For':
        return this.#evaluateFor(statement as For, environment);
      case 'FilterStatement':
        // The library filters the text of its block without evaluating it as an expression.
        return unknown();
      default:
        return super.evaluateStep(statement, environment);
    }
  }

  override evaluateBlock(statements: readonly JinjaNode[], environment: JinjaEnvironment): JinjaValue {
    const parts: Part[] = [];
    for (const statement of statements) {
      const printed = this.evaluate(statement, environment);
      if (printed instanceof this.#Placeholder) parts.push(...printed.parts);
      else if (printed.type !== 'NullValue' && printed.type !== 'UndefinedValue') parts.push(printed.toString());
    }
    const block = this.#valueOf(parts);
    if (!(block instanceof this.#Placeholder) || !this.#loopBlocks.has(statements)) return block;
    this.#marked.push(block.parts);
    return new this.#StringValue(`${this.#mark}${this.#marked.length - 1}${this.#mark}`);
  }

  #evaluateFor(statement: For, environment: JinjaEnvironment): JinjaValue {
    this.#loopBlocks.add(statement.body).add(statement.defaultBlock);
    const { value } = super.evaluateStep(statement, environment);
    const pieces = (value as string).split(this.#mark);
    // Texts and numbers of marked blocks alternate.
    return this.#valueOf(pieces.flatMap((piece, index) => (index % 2 === 0 ? [piece] : this.#marked[Number(piece)]!)));
  }

  #evaluateBinary(statement: BinaryExpression, environment: JinjaEnvironment): JinjaValue {
    const { value: operator } = statement.operator;
    // Of these, the library evaluates the second operand only if it matters.
    if (operator === 'and' || operator === 'or') return super.evaluateStep(statement, environment);
    const left = this.evaluate(statement.left, environment);
    const right = this.evaluate(statement.right, environment);
    const isLeftUnknown = left instanceof this.#Placeholder;
    if (isLeftUnknown || right instanceof this.#Placeholder) {
      const [ofLeft, ofRight] = [partsOf(left, this.#Placeholder), partsOf(right, this.#Placeholder)];
      if (operator === '+' || operator === '~') return this.#valueOf([...ofLeft, ...ofRight]);
      const [asked, known] = isLeftUnknown ? [ofLeft, right] : [ofRight, left];
      const isSwapped = isLeftUnknown && (operator === 'in' || operator === 'not in');
      const test = TESTS[operator];
      return test === undefined || isSwapped ? unknown() : this.#ask(asked, known, test);
    }
    const operands = { left: new Evaluated(left), right: new Evaluated(right) };
    return super.evaluateStep({ ...statement, ...operands } as JinjaNode, environment);
  }

  #ask(parts: readonly Part[], known: JinjaValue, test: (text: string, known: string) => boolean): JinjaValue {
    if (known instanceof this.#Placeholder) return unknown();
    const text = literalOf(known);
    return new this.#BooleanValue(this.#decide(parts, (content) => test(content, text)));
  }

  #evaluateFilter(statement: FilterExpression, environment: JinjaEnvironment): JinjaValue {
    const operand = this.evaluate(statement.operand, environment);
    const { filter } = statement;
    if (operand instanceof this.#Placeholder && filter.type === 'Identifier' && filter.value === 'trim') {
      return this.#valueOf([{ of: operand.parts, change: (text) => text.trim() }]);
    }
    return super.evaluateStep({ ...statement, operand: new Evaluated(operand) } as JinjaNode, environment);
  }

  /** A call of a method of a text, without an argument or with a literal one. Other calls are the library's. */
  #evaluateCall(statement: CallExpression, environment: JinjaEnvironment): JinjaValue {
    const { callee, args } = statement;
    const method = callee.type === 'MemberExpression' && !callee.computed ? callee.property?.value : undefined;
    const [argument] = args;
    const isLiteral = args.length === 0 || (args.length === 1 && argument!.type === 'StringLiteral');
    if (!isLiteral || typeof method !== 'string') return super.evaluateStep(statement, environment);
    const object = this.evaluate(callee.object, environment);
    if (!(object instanceof this.#Placeholder)) {
      const ofObject = { ...callee, object: new Evaluated(object) };
      return super.evaluateStep({ ...statement, callee: ofObject } as JinjaNode, environment);
    }
    const { parts: of } = object;
    if (argument === undefined) {
      return method === 'strip' ? this.#valueOf([{ of, change: (text) => text.trim() }]) : unknown();
    }
    const known = this.evaluate(argument, environment);
    if (method === 'startswith' || method === 'endswith') return this.#ask(of, known, TESTS[method]!);
    if (!isStrip(method)) return unknown();
    const characters = new Set(literalOf(known));
    return this.#valueOf([{ of, change: (text) => stripped(text, characters, method) }]);
  }

  /** A text of the library where all parts are literal, a placeholder otherwise. */
  #valueOf(parts: readonly Part[]): JinjaValue {
    const joined: Part[] = [];
    for (const part of parts) {
      if (typeof part === 'string' && typeof joined.at(-1) === 'string')
        joined.push(`${joined.pop() as string}${part}`);
      else joined.push(part);
    }
    if (joined.every((part) => typeof part === 'string')) return new this.#StringValue(joined.join(''));
    return new this.#Placeholder(joined);
  }
}
