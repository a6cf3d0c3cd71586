import { Interpreter, type JinjaEnvironment, type JinjaNode, type JinjaValue } from './chat-template-jinja.js';
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

/** Jinja's interpreter with limits: a template can contain loops and recursion that never end. */
export class BoundedInterpreter extends Interpreter {
  #steps = 0;
  readonly #maxSteps: number;
  readonly #weights = new TemplateValueWeights();

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

  /** Evaluates a statement or an expression that was counted. */
  protected evaluateStep(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue {
    const stripped = stripCharacters(statement, (expression) => this.evaluate(expression, environment));
    return stripped ?? super.evaluate(statement, environment);
  }
}
