import {
  Evaluated,
  elementsOf,
  type For,
  Interpreter,
  integerKeyedObject,
  isNamespace,
  isPrinted,
  type JinjaEnvironment,
  type JinjaNode,
  type JinjaValue,
  memberOf,
  NOTHING,
  StringValue,
  valueAtInteger,
} from './jinja-library.js';
import { evaluatedAsPython, pythonText, stripCharacters } from './python-values.js';

/** Templates are untrusted code. A conversation takes about 50 steps per message; this limit takes one or two seconds. */
const MAX_STEPS = 200_000;
/** Creating this many characters of text or lists takes about as long as one step, so it counts as one. */
const CHARACTERS_PER_STEP = 4_096;
/** Twice the longest line of a dataset. */
const MAX_OUTPUT_CHARACTERS = 32 * 1024 * 1024;
/** Limits, for docs/limits.md. */
export const renderingLimits = {
  steps: { value: MAX_STEPS, unit: 'steps', beyond: '422 `chat_template_failed`' },
  output: { value: MAX_OUTPUT_CHARACTERS, unit: 'characters', beyond: '422 `chat_template_failed`' },
};

/** A loop that is being evaluated. */
interface Loop {
  body: readonly JinjaNode[];
  /** The part that the current statement leaves out: none, the rest of this iteration, or the rest of the loop. */
  leaves: null | 'iteration' | 'loop';
  /** True once an iteration began, and once one came to its end. */
  isBegun: boolean;
  isWhole: boolean;
}

/**
 * Jinja's interpreter with limits: a template can contain loops and recursion that never end. The library forgets what an
 * iteration of a loop printed before `continue` or `break`, so these are evaluated here.
 */
export class TemplateInterpreter extends Interpreter {
  #steps = 0;
  readonly #maxSteps: number;
  readonly #lengths = new PrintedLengths();
  readonly #loops: Loop[] = [];
  /** The objects with integers as keys that the template made. */
  readonly #integerKeyed = new Set<JinjaValue>();

  constructor(environment: JinjaEnvironment, maxSteps = MAX_STEPS) {
    super(environment);
    this.#maxSteps = maxSteps;
  }

  override evaluate(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue {
    this.#steps++;
    if (this.#steps > this.#maxSteps) throw new Error(`it did not end within ${this.#maxSteps} steps.`);
    const result = this.evaluateStep(statement, environment);
    const { length, isNew } = this.#lengths.of(result);
    if (length > MAX_OUTPUT_CHARACTERS) {
      throw new Error(`it created a text, list or object of more than ${MAX_OUTPUT_CHARACTERS} characters.`);
    }
    if (isNew) this.#steps += length / CHARACTERS_PER_STEP;
    return result;
  }

  override evaluateBlock(statements: readonly JinjaNode[], environment: JinjaEnvironment): JinjaValue {
    const loop = this.#loops.at(-1);
    const isIteration = loop?.body === statements;
    if (isIteration && loop.leaves === 'loop') return new StringValue('');
    const printed: JinjaValue[] = [];
    for (const statement of statements) {
      const value = this.evaluate(statement, environment);
      if (isPrinted(value, statement)) printed.push(printedText(value));
      if (loop !== undefined && loop.leaves !== null) break;
    }
    if (isIteration) {
      loop.isBegun = true;
      loop.isWhole ||= loop.leaves === null;
      if (loop.leaves === 'iteration') loop.leaves = null;
    }
    return this.joined(statements, printed);
  }

  /** The text that the statements of a block printed. */
  protected joined(_statements: readonly JinjaNode[], printed: readonly JinjaValue[]): JinjaValue {
    return new StringValue(printed.map((value) => value.toString()).join(''));
  }

  /** Evaluates a statement or an expression that was counted. */
  protected evaluateStep(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue {
    if (statement instanceof Evaluated) return statement.value;
    const loop = this.#loops.at(-1);
    const type = statement?.type;
    if (type === 'For') return this.#evaluateLoop(statement as For, environment);
    if (type === 'Continue' || type === 'Break') {
      if (loop === undefined) throw new Error(`it has a ${type.toLowerCase()} outside of a loop.`);
      loop.leaves = type === 'Continue' ? 'iteration' : 'loop';
      return NOTHING;
    }
    const evaluate = (expression: JinjaNode) => this.evaluate(expression, environment);
    return (
      this.#ofIntegerKeys(statement, environment, evaluate) ??
      stripCharacters(statement, evaluate) ??
      evaluatedAsPython(statement, evaluate, (expression) => super.evaluate(expression, environment)) ??
      super.evaluate(statement, environment)
    );
  }

  /** Such an object, and what a template reads of one; null of any other statement. */
  #ofIntegerKeys(
    statement: JinjaNode | undefined,
    environment: JinjaEnvironment,
    evaluate: (expression: JinjaNode) => JinjaValue,
  ): JinjaValue | null {
    const object = integerKeyedObject(statement, evaluate);
    if (object !== null) this.#integerKeyed.add(object);
    if (object !== null || this.#integerKeyed.size === 0) return object;
    const member = memberOf(statement, evaluate);
    if (member === null) return null;
    const isKnown = this.#integerKeyed.has(member.object);
    const value = isKnown ? valueAtInteger(member.object, member.property) : null;
    return value ?? super.evaluate(member.expression, environment);
  }

  #evaluateLoop(statement: For, environment: JinjaEnvironment): JinjaValue {
    const loop: Loop = { body: statement.body, leaves: null, isBegun: false, isWhole: false };
    this.#loops.push(loop);
    let printed: JinjaValue;
    try {
      printed = super.evaluate(statement, environment);
    } finally {
      this.#loops.pop();
    }
    // As in Jinja2, the block for a loop without iterations is also printed after one whose iterations were all left.
    if (!loop.isBegun || loop.isWhole || statement.defaultBlock.length === 0) return printed;
    const otherwise = this.evaluateBlock(statement.defaultBlock, environment);
    return new StringValue(`${printed.value}${otherwise.value}`);
  }
}

/** The text that Python prints of a value; one that is not known stays as it is. */
function printedText(value: JinjaValue): JinjaValue {
  return value instanceof StringValue ? value : new StringValue(pythonText(value));
}

/** The length of an element besides its text: creating one takes as long as copying this many characters. */
const ELEMENT_LENGTH = 512;

/**
 * The approximate lengths of a template's values when they are printed, in characters. A list that contains the previous
 * list twice, nested forty times, takes little memory but 2^40 characters in `tojson`. So a value is measured before it is
 * printed.
 */
class PrintedLengths {
  /** Lengths of lists and objects, which never change. A namespace can change, so it is measured each time. */
  readonly #known = new WeakMap<object, number>();

  /** @returns the length, Infinity for a value that contains itself; and true if this is the first time */
  of(value: JinjaValue): { length: number; isNew: boolean } {
    const known = this.#known.get(value);
    return known === undefined
      ? { length: this.#measure(value, new Map()), isNew: true }
      : { length: known, isNew: false };
  }

  #measure(value: JinjaValue, namespaces: Map<object, number>): number {
    if (value.maxLength !== undefined) return value.maxLength;
    if (typeof value.value === 'string') return value.value.length;
    const parts = elementsOf(value);
    if (parts === null) return 1;
    const canChange = isNamespace(value);
    const known = canChange ? namespaces.get(value) : this.#known.get(value);
    if (known !== undefined) return known;
    // If a namespace is found again while it is measured, it contains itself.
    if (canChange) namespaces.set(value, Number.POSITIVE_INFINITY);
    let length = ELEMENT_LENGTH;
    let hasNamespace = canChange;
    for (const part of parts) {
      length += ELEMENT_LENGTH + this.#measure(part, namespaces);
      hasNamespace ||= !this.#isFixed(part);
    }
    if (canChange) namespaces.set(value, length);
    else if (!hasNamespace) this.#known.set(value, length);
    return length;
  }

  #isFixed(value: JinjaValue): boolean {
    return value.maxLength !== undefined || elementsOf(value) === null || this.#known.has(value);
  }
}
