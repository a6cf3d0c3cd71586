import {
  Evaluated,
  type For,
  Interpreter,
  integerKeyedObject,
  isPrinted,
  type JinjaEnvironment,
  type JinjaNode,
  type JinjaValue,
  memberOf,
  NOTHING,
  StringValue,
  valueAtInteger,
} from './chat-template-jinja.js';
import { pythonText } from './python-text.js';
import { evaluatedAsPython } from './template-as-python.js';
import { stripCharacters } from './template-strip.js';
import { TemplateValueWeights } from './template-value-weight.js';

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
  /** The part that the current statement leaves out: none, the rest of this turn, or the rest of the loop. */
  leaves: null | 'turn' | 'loop';
  /** Whether a turn began, and whether one came to its end. */
  isBegun: boolean;
  isWhole: boolean;
}

/**
 * Jinja's interpreter with limits: a template can contain loops and recursion that never end. The library forgets what a turn of
 * a loop printed before `continue` or `break`, so these are evaluated here.
 */
export class BoundedInterpreter extends Interpreter {
  #steps = 0;
  readonly #maxSteps: number;
  readonly #weights = new TemplateValueWeights();
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
    const { weight, isNew } = this.#weights.of(result);
    if (weight > MAX_OUTPUT_CHARACTERS) {
      throw new Error(`it created a text, list or object of more than ${MAX_OUTPUT_CHARACTERS} characters.`);
    }
    if (isNew) this.#steps += weight / CHARACTERS_PER_STEP;
    return result;
  }

  override evaluateBlock(statements: readonly JinjaNode[], environment: JinjaEnvironment): JinjaValue {
    const loop = this.#loops.at(-1);
    const isTurn = loop?.body === statements;
    if (isTurn && loop.leaves === 'loop') return new StringValue('');
    const printed: JinjaValue[] = [];
    for (const statement of statements) {
      const value = this.evaluate(statement, environment);
      if (isPrinted(value, statement)) printed.push(printedText(value));
      if (loop !== undefined && loop.leaves !== null) break;
    }
    if (isTurn) {
      loop.isBegun = true;
      loop.isWhole ||= loop.leaves === null;
      if (loop.leaves === 'turn') loop.leaves = null;
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
      loop.leaves = type === 'Continue' ? 'turn' : 'loop';
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
    let turns: JinjaValue;
    try {
      turns = super.evaluate(statement, environment);
    } finally {
      this.#loops.pop();
    }
    // As in Jinja2, the block for a loop without turns is also printed after one whose turns were all left.
    if (!loop.isBegun || loop.isWhole || statement.defaultBlock.length === 0) return turns;
    const otherwise = this.evaluateBlock(statement.defaultBlock, environment);
    return new StringValue(`${turns.value}${otherwise.value}`);
  }
}

/** The text that Python prints of a value; one that is not known stays as it is. */
function printedText(value: JinjaValue): JinjaValue {
  return value instanceof StringValue ? value : new StringValue(pythonText(value));
}
