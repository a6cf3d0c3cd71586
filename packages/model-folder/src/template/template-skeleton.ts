import { randomBytes } from 'node:crypto';
import type { Message } from '@lorasmith/contracts';
import {
  type BinaryExpression,
  BooleanValue,
  Environment,
  type FilterExpression,
  type For,
  type JinjaEnvironment,
  type JinjaNode,
  type JinjaValue,
  methodCallOf,
  replaceFields,
  StringValue,
  textOfValue,
  UnknownText,
  unknown,
  withOperands,
} from './jinja-library.js';
import { isStrip, stripped, WHITE_SPACE } from './python-values.js';
import { TemplateInterpreter } from './template-interpreter.js';
import { REASONING_NAMES, type ReasoningName } from './template-messages.js';

// Most conversations of a dataset differ in their contents alone, so a template writes the same text around these. A skeleton is that
// text, and filling it takes a fraction of the interpreter's time.

/** Characters. Longer contents, of which one could exceed a limit of the interpreter, are rendered without a skeleton. */
const MAX_CONTENT_LENGTH = 65_536;
/** The fields of a message whose texts a skeleton leaves open. */
export const TEXT_FIELDS = ['content', ...REASONING_NAMES] as const;
type TextField = (typeof TEXT_FIELDS)[number];
/** A message with a role and texts alone. */
export type TextMessage = Message & Partial<Record<ReasoningName, string>>;

/** The text that a template writes for conversations that differ only in the contents, and the reasoning, of their messages. */
export class TemplateSkeleton {
  readonly #decisions: readonly Decision[];
  readonly #parts: readonly Part[] | null;

  /** @param parts null for conversations whose text depends on the contents in a way that a skeleton cannot say */
  constructor(decisions: readonly Decision[], parts: readonly Part[] | null) {
    this.#decisions = decisions;
    this.#parts = parts;
  }

  /** True if the template decides for these contents as for those that the skeleton was made with. */
  fits(messages: readonly TextMessage[]): boolean {
    return this.#decisions.every(({ parts, test, isTrue }) => test(textOf(parts, messages)) === isTrue);
  }

  /** The text for contents that fit; null when the interpreter has to render it. */
  fill(messages: readonly TextMessage[]): string | null {
    return this.#parts && textOf(this.#parts, messages);
  }
}

/** A literal text, a text of a message, or what a function makes of other parts: never a longer text. */
type Part = string | TextOfMessage | { of: readonly Part[]; change(text: string): string };

interface TextOfMessage {
  index: number;
  field: TextField;
}

/** A test that a template makes of a text that is not known, and its result. */
interface Decision {
  parts: readonly Part[];
  test(text: string): boolean;
  isTrue: boolean;
}

function textOf(parts: readonly Part[], messages: readonly TextMessage[]): string {
  let text = '';
  for (const part of parts) {
    if (typeof part === 'string') text += part;
    else if ('field' in part) text += messages[part.index]![part.field];
    else text += part.change(textOf(part.of, messages));
  }
  return text;
}

/** Longer conversations hardly ever have the same roles. */
const MAX_MESSAGES = 64;
/** A few MB at most. */
const MAX_SKELETONS = 1_000;
/** Maximum skeletons of conversations with the same roles. */
const MAX_SKELETONS_PER_ROLES = 16;

/** The skeletons of a template by the roles of the messages. */
export class SkeletonCache {
  readonly #program: JinjaNode;
  readonly #variables: JinjaEnvironment;
  readonly #skeletons = new Map<string, TemplateSkeleton[]>();
  #count = 0;

  /** @param variables besides the messages; they never change */
  constructor(program: JinjaNode, variables: JinjaEnvironment) {
    this.#program = program;
    this.#variables = variables;
  }

  /** The text for these messages; null when the interpreter has to render it. */
  render(messages: readonly TextMessage[]): string | null {
    if (messages.length > MAX_MESSAGES) return null;
    let key = '';
    for (const message of messages) {
      // Messages with calls of tools have other fields.
      if (!isShortText(message)) return null;
      // A template can print the fields of a message in their order.
      key += `${Object.keys(message).join()} ${message.role};`;
    }
    const skeletons = this.#skeletons.get(key) ?? [];
    const skeleton = skeletons.find((known) => known.fits(messages)) ?? this.#add(key, skeletons, messages);
    return skeleton?.fill(messages) ?? null;
  }

  #add(key: string, skeletons: TemplateSkeleton[], messages: readonly TextMessage[]): TemplateSkeleton | null {
    if (skeletons.length === MAX_SKELETONS_PER_ROLES) return null;
    if (this.#count === MAX_SKELETONS) {
      this.#skeletons.clear();
      this.#count = 0;
      skeletons = [];
    }
    const skeleton = skeletonOf(this.#program, messages, this.#variables);
    this.#skeletons.set(key, [...skeletons, skeleton]);
    this.#count++;
    return skeleton;
  }
}

/** True of a message with a role and texts alone that are not long. */
function isShortText(message: TextMessage): boolean {
  return Object.keys(message).every((field) => {
    if (field === 'role') return true;
    const known = TEXT_FIELDS.find((name) => name === field);
    const text: unknown = known && message[known];
    return typeof text === 'string' && text.length <= MAX_CONTENT_LENGTH;
  });
}

/** A tenth of the interpreter's limit: a template that does more is not worth the attempt. */
const MAX_SKELETON_STEPS = 20_000;

/**
 * Renders a conversation with placeholders instead of contents. A placeholder can be joined with other texts, printed, and
 * stripped. The contents decide if it is empty, equals a text, contains it, or begins or ends with it, and the skeleton only
 * fits contents of which the same is true. Anything else that a template does with a placeholder ends the attempt: a
 * placeholder throws when its text is read.
 *
 * So the template does the same steps with all contents that fit. Each placeholder counts as the longest content that is
 * allowed, so no contents exceed a limit that the placeholders do not.
 *
 * @param variables besides the messages
 */
export function skeletonOf(
  program: JinjaNode,
  messages: readonly TextMessage[],
  variables: JinjaEnvironment,
): TemplateSkeleton {
  const decisions: Decision[] = [];
  const decide: Decide = (parts, test) => {
    const isTrue = test(textOf(parts, messages));
    decisions.push({ parts, test, isTrue });
    return isTrue;
  };
  try {
    const environment = new Environment(variables);
    replaceFields(environment.set('messages', messages), TEXT_FIELDS, (index, field) => {
      return new Placeholder([{ index, field }], decide);
    });
    const result = new SkeletonInterpreter(environment, decide).run(program);
    return new TemplateSkeleton(decisions, partsOf(result));
  } catch {
    // Or the template failed: then the interpreter says why.
    return new TemplateSkeleton(decisions, null);
  }
}

type Decide = (parts: readonly Part[], test: (text: string) => boolean) => boolean;

/** A text with parts that are not known. */
class Placeholder extends UnknownText {
  readonly parts: readonly Part[];
  readonly #decide: Decide;

  constructor(parts: readonly Part[], decide: Decide) {
    super(maxLengthOf(parts));
    this.parts = parts;
    this.#decide = decide;
  }

  override isNotEmpty(): boolean {
    return this.#decide(this.parts, (text) => text !== '');
  }
}

function maxLengthOf(parts: readonly Part[]): number {
  return parts.reduce<number>((sum, part) => {
    if (typeof part === 'string') return sum + part.length;
    return sum + ('field' in part ? MAX_CONTENT_LENGTH : maxLengthOf(part.of));
  }, 0);
}

function partsOf(value: JinjaValue): readonly Part[] {
  return value instanceof Placeholder ? value.parts : [textOfValue(value) ?? unknown()];
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

/** The operations on placeholders; everything else is the library's. */
class SkeletonInterpreter extends TemplateInterpreter {
  readonly #decide: Decide;
  /** Blocks of loops. The library joins their texts, so they are marked in a text for that long. */
  readonly #loopBlocks = new Set<readonly JinjaNode[]>();
  readonly #marked: (readonly Part[])[] = [];
  /** Not known to the template. */
  readonly #mark = `\0${randomBytes(16).toString('hex')}\0`;

  constructor(environment: JinjaEnvironment, decide: Decide) {
    super(environment, MAX_SKELETON_STEPS);
    this.#decide = decide;
  }

  protected override evaluateStep(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue {
    switch (statement?.type) {
      case 'BinaryExpression':
        return this.#evaluateBinary(statement as BinaryExpression, environment);
      case 'FilterExpression':
        return this.#evaluateFilter(statement as FilterExpression, environment);
      case 'CallExpression':
        return this.#evaluateCall(statement, environment);
      case 'For':
        return this.#evaluateFor(statement as For, environment);
      case 'FilterStatement':
        // The library filters the text of its block without evaluating it as an expression.
        return unknown();
      default:
        return super.evaluateStep(statement, environment);
    }
  }

  protected override joined(statements: readonly JinjaNode[], printed: readonly JinjaValue[]): JinjaValue {
    const block = this.#valueOf(
      printed.flatMap((value) => (value instanceof Placeholder ? value.parts : [value.toString()])),
    );
    if (!(block instanceof Placeholder) || !this.#loopBlocks.has(statements)) return block;
    this.#marked.push(block.parts);
    return new StringValue(`${this.#mark}${this.#marked.length - 1}${this.#mark}`);
  }

  #evaluateFor(statement: For, environment: JinjaEnvironment): JinjaValue {
    this.#loopBlocks.add(statement.body).add(statement.defaultBlock);
    const { value } = super.evaluateStep(statement, environment);
    const segments = (value as string).split(this.#mark);
    // Texts and numbers of marked blocks alternate.
    return this.#valueOf(
      segments.flatMap((segment, index) => (index % 2 === 0 ? [segment] : this.#marked[Number(segment)]!)),
    );
  }

  #evaluateBinary(statement: BinaryExpression, environment: JinjaEnvironment): JinjaValue {
    const { value: operator } = statement.operator;
    // Of these, the library evaluates the second operand only if it matters.
    if (operator === 'and' || operator === 'or') return super.evaluateStep(statement, environment);
    const left = this.evaluate(statement.left, environment);
    const right = this.evaluate(statement.right, environment);
    const isLeftUnknown = left instanceof Placeholder;
    if (isLeftUnknown || right instanceof Placeholder) {
      const [ofLeft, ofRight] = [partsOf(left), partsOf(right)];
      if (operator === '+' || operator === '~') return this.#valueOf([...ofLeft, ...ofRight]);
      const [asked, known] = isLeftUnknown ? [ofLeft, right] : [ofRight, left];
      const isSwapped = isLeftUnknown && (operator === 'in' || operator === 'not in');
      const test = TESTS[operator];
      return test === undefined || isSwapped ? unknown() : this.#ask(asked, known, test);
    }
    return super.evaluateStep(withOperands(statement, { left, right }), environment);
  }

  #ask(parts: readonly Part[], known: JinjaValue, test: (text: string, known: string) => boolean): JinjaValue {
    if (known instanceof Placeholder) return unknown();
    const text = textOfValue(known) ?? unknown();
    return new BooleanValue(this.#decide(parts, (content) => test(content, text)));
  }

  #evaluateFilter(statement: FilterExpression, environment: JinjaEnvironment): JinjaValue {
    const operand = this.evaluate(statement.operand, environment);
    const { filter } = statement;
    if (operand instanceof Placeholder && filter.type === 'Identifier' && filter.value === 'trim') {
      return this.#valueOf([{ of: operand.parts, change: (text) => stripped(text) }]);
    }
    return super.evaluateStep(withOperands(statement, { operand }), environment);
  }

  /** A call of a method of a text, without an argument or with a literal one. Other calls are the library's. */
  #evaluateCall(statement: JinjaNode, environment: JinjaEnvironment): JinjaValue {
    const call = methodCallOf(statement);
    if (call === null || call.args.length > 1) return super.evaluateStep(statement, environment);
    const { method, args } = call;
    const [argument] = args;
    if (argument !== undefined && argument.type !== 'StringLiteral') return super.evaluateStep(statement, environment);
    const object = this.evaluate(call.object, environment);
    if (!(object instanceof Placeholder)) return super.evaluateStep(call.on(object), environment);
    const { parts: of } = object;
    if (argument === undefined) {
      return isStrip(method)
        ? this.#valueOf([{ of, change: (text) => stripped(text, WHITE_SPACE, method) }])
        : unknown();
    }
    const known = this.evaluate(argument, environment);
    if (method === 'startswith' || method === 'endswith') return this.#ask(of, known, TESTS[method]!);
    if (!isStrip(method)) return unknown();
    const characters = new Set(textOfValue(known) ?? unknown());
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
    if (joined.every((part) => typeof part === 'string')) return new StringValue(joined.join(''));
    return new Placeholder(joined, this.#decide);
  }
}
