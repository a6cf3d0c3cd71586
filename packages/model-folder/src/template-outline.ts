import { randomBytes } from 'node:crypto';
import type { Message } from '@lorasmith/contracts';
import { BoundedInterpreter } from './bounded-interpreter.js';
import { Environment, type JinjaEnvironment, type JinjaNode, type JinjaValue } from './chat-template-jinja.js';

/** What a template makes of conversations that differ only in the contents of their messages. */
export class TemplateOutline {
  readonly #parts: readonly Part[];

  constructor(parts: readonly Part[]) {
    this.#parts = parts;
  }

  fill(messages: readonly Message[]): string {
    return textOf(this.#parts, messages);
  }
}

/** A literal text, the content of the n-th message, or other parts without the white space around them. */
type Part = string | number | { trimmed: readonly Part[] };

function textOf(parts: readonly Part[], messages: readonly Message[]): string {
  let text = '';
  for (const part of parts) {
    if (typeof part === 'string') text += part;
    else if (typeof part === 'number') text += messages[part]!.content;
    else text += textOf(part.trimmed, messages).trim();
  }
  return text;
}

/** Longer contents, of which one could exceed a limit of the interpreter, are rendered without an outline. */
export const MAX_OUTLINED_CONTENT = 65_536;
/** A tenth of the interpreter's limit: a template that does more is not worth the attempt. */
const MAX_OUTLINE_STEPS = 20_000;

/**
 * Renders a conversation with placeholders instead of contents. A placeholder can be joined with other texts, printed, and
 * stripped of white space. Anything else that a template does with it, such as comparing it, needs its content, and ends
 * the attempt: the library reads the text of every value as `value`, and a placeholder throws when that is read.
 *
 * So wherever there is an outline, the template does the same steps with any contents. Each placeholder counts as the longest
 * content that is allowed, so no contents exceed a limit that the placeholders do not.
 *
 * @param variables besides the messages
 * @returns null when the text depends on the contents in another way, or the template fails
 */
export function outlineTemplate(
  program: JinjaNode,
  messages: readonly Message[],
  variables: JinjaEnvironment,
): TemplateOutline | null {
  try {
    const environment = new Environment(variables);
    const list = environment.set('messages', messages) as JinjaValue & { value: { value: Map<string, JinjaValue> }[] };
    // No template can name this variable.
    const StringValue = environment.set('any text', '').constructor as StringType;
    const Placeholder = placeholderClass(StringValue);
    for (const [index, { value: fields }] of list.value.entries()) fields.set('content', new Placeholder([index]));
    const result = new OutliningInterpreter(environment, { StringValue, Placeholder }).run(program);
    return new TemplateOutline(partsOf(result, Placeholder));
  } catch {
    return null;
  }
}

type StringType = new (text: string) => JinjaValue;
type PlaceholderType = new (parts: readonly Part[]) => JinjaValue & { readonly parts: readonly Part[] };

/** A text of the library with parts that are not known. */
function placeholderClass(StringValue: StringType): PlaceholderType {
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
  };
}

function longest(parts: readonly Part[]): number {
  return parts.reduce<number>((sum, part) => {
    if (typeof part === 'string') return sum + part.length;
    return sum + (typeof part === 'number' ? MAX_OUTLINED_CONTENT : longest(part.trimmed));
  }, 0);
}

function unknown(): never {
  throw new Error('the text depends on the contents of messages');
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
  readonly #StringValue: StringType;
  readonly #Placeholder: PlaceholderType;
  /** Blocks of loops. The library joins their texts, so they are marked in a text for that long. */
  readonly #loopBlocks = new Set<readonly JinjaNode[]>();
  readonly #marked: (readonly Part[])[] = [];
  /** Not known to the template. */
  readonly #mark = `\0${randomBytes(16).toString('hex')}\0`;

  constructor(environment: JinjaEnvironment, types: { StringValue: StringType; Placeholder: PlaceholderType }) {
    super(environment, MAX_OUTLINE_STEPS);
    this.#StringValue = types.StringValue;
    this.#Placeholder = types.Placeholder;
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
    if (operator !== '+' && operator !== '~') return super.evaluateStep(statement, environment);
    const left = this.evaluate(statement.left, environment);
    const right = this.evaluate(statement.right, environment);
    if (left instanceof this.#Placeholder || right instanceof this.#Placeholder) {
      return this.#valueOf([...partsOf(left, this.#Placeholder), ...partsOf(right, this.#Placeholder)]);
    }
    const operands = { left: new Evaluated(left), right: new Evaluated(right) };
    return super.evaluateStep({ ...statement, ...operands } as JinjaNode, environment);
  }

  #evaluateFilter(statement: FilterExpression, environment: JinjaEnvironment): JinjaValue {
    const operand = this.evaluate(statement.operand, environment);
    const { filter } = statement;
    if (operand instanceof this.#Placeholder && filter.type === 'Identifier' && filter.value === 'trim') {
      return this.#valueOf([{ trimmed: operand.parts }]);
    }
    return super.evaluateStep({ ...statement, operand: new Evaluated(operand) } as JinjaNode, environment);
  }

  #evaluateCall(statement: CallExpression, environment: JinjaEnvironment): JinjaValue {
    const { callee, args } = statement;
    const isStrip = callee.type === 'MemberExpression' && !callee.computed && callee.property?.value === 'strip';
    if (!isStrip || args.length > 0) return super.evaluateStep(statement, environment);
    const object = this.evaluate(callee.object, environment);
    if (object instanceof this.#Placeholder) return this.#valueOf([{ trimmed: object.parts }]);
    const ofObject = { ...callee, object: new Evaluated(object) };
    return super.evaluateStep({ ...statement, callee: ofObject } as JinjaNode, environment);
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
