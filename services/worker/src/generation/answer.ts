import { type GenerationChunk, type GenerationRequest, ProductError } from '@lorasmith/contracts';
import { GrammarTooLargeError, SchemaError } from '@lorasmith/json-grammar';
import type { ModelText } from '@lorasmith/model-folder';
import {
  type GenerationEvent,
  type GenerationHandle,
  NotFiniteError,
  type Sampling,
  type ScoredToken,
  type TokenConstraint,
} from '@lorasmith/models';
import type { TokenCounts } from '../trainer/messages.js';
import { type AnswerOutput, outputOf } from './answer-output.js';
import type { ChoiceOutput } from './choice-output.js';
import type { GenerationContext } from './generation-context.js';
import type { PromptTokens } from './prompt-tokens.js';
import type { AnswerCalls } from './tool-calls.js';

/** A request with all that is needed to answer it. */
export interface PreparedRequest {
  context: GenerationContext;
  text: ModelText;
  prompts: readonly PromptTokens[];
  /** Null: the text has none. */
  calls: AnswerCalls | null;
  adapter: Parameters<GenerationContext['generation']['add']>[0]['adapter'];
}

export interface AnswerOptions extends PreparedRequest {
  request: GenerationRequest;
  signal: AbortSignal;
  onChunk: (piece: GenerationChunk) => void;
}

/** The answer to one request while it is generated. */
export class Answer {
  /** Resolves with the numbers of tokens at its end; with null once the signal is aborted. Rejects with what {@link fail} is given. */
  readonly done: Promise<TokenCounts | null>;
  readonly #options: AnswerOptions;
  /** Tokens that a prompt and a text may have together. */
  readonly #space: number;
  /** The kind of the answer. */
  readonly #output: AnswerOutput;
  /** Makes the constraint of each text; undefined: any token may come. */
  readonly #constraint: (() => TokenConstraint) | undefined;
  readonly #handles: GenerationHandle[] = [];
  readonly #tokens: TokenCounts;
  /** Texts that have not ended. */
  #open: number;
  #resolve: (tokens: TokenCounts | null) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  /**
   * @throws ProductError `context_length_exceeded`; `invalid_request` for a prompt without tokens, and for a schema that is too
   *   large or that the tokenizer does not allow
   */
  constructor(options: AnswerOptions) {
    const { request, prompts, context, calls } = options;
    this.#options = options;
    const schema = calls?.schema ?? request.schema;
    this.#constraint = schema === null ? undefined : constraintOf(schema, options);
    this.#space = context.spaceFor(request.n);
    for (const { ids } of prompts) checkLength(ids.length, request, this.#space);
    this.#output = outputOf(options);
    this.#tokens = { prompt: prompts.reduce((sum, { ids }) => sum + ids.length, 0), completion: 0 };
    this.#open = prompts.length * request.n;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Gives the prompts to the generation. @throws ProductError `invalid_request` for one that cannot be generated from */
  begin(): void {
    this.#options.signal.addEventListener('abort', this.#onAbort, { once: true });
    try {
      for (const [index, prompt] of this.#options.prompts.entries()) this.#handles.push(this.#add(prompt, index));
    } catch (error) {
      this.#end();
      throw error instanceof RangeError ? impossible(error) : error;
    }
  }

  fail(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  readonly #onAbort = (): void => {
    this.#end();
    this.#resolve(null);
  };

  #end(): void {
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    for (const handle of this.#handles) handle.cancel();
  }

  #add(prompt: PromptTokens, index: number): GenerationHandle {
    const { request, context, adapter } = this.#options;
    const { stopIds, logprobs, promptLogprobs, promptLast } = this.#output;
    const choices = this.#output.choicesOf(prompt, index);
    const handle: GenerationHandle = context.generation.add(
      {
        promptIds: prompt.ids,
        adapter,
        maxNewTokens: Math.min(request.max_tokens, this.#space - prompt.ids.length),
        sampling: samplingOf(request),
        constraint: this.#constraint,
        choices: request.n,
        ...{ stopIds, logprobs, promptLogprobs, promptLast },
      },
      (event) => this.#onEvent(event, prompt, choices, handle),
    );
    return handle;
  }

  #onEvent(
    event: GenerationEvent,
    prompt: PromptTokens,
    choices: readonly ChoiceOutput[],
    handle: GenerationHandle,
  ): void {
    switch (event.kind) {
      case 'prompt-scored':
        for (const choice of choices) choice.promptToken(event.token.id, event.token, prompt.isText(event.position));
        break;
      case 'token':
        if (!this.#push(choices[event.choice]!, event.id, event.scored)) break;
        handle.cancel(event.choice);
        this.#finished();
        break;
      case 'ended': {
        const choice = choices[event.choice]!;
        const stop = this.#output.keepsStopToken ? event.stop : undefined;
        const isOver = stop !== undefined && this.#push(choice, stop.id, stop);
        if (!isOver) choice.finish(event.reason);
        this.#finished();
        break;
      }
      case 'failed':
        this.fail(failureOf(event.error, this.#options));
    }
  }

  /** @returns true if the choice has ended with this token */
  #push(choice: ChoiceOutput, id: number, scored: ScoredToken | null): boolean {
    this.#tokens.completion++;
    return choice.push(id, scored);
  }

  #finished(): void {
    this.#open--;
    if (this.#open > 0) return;
    this.#end();
    this.#resolve(this.#tokens);
  }
}

/** Numbers that are not finite are a fault of what was asked, not of the service: another try computes the same. */
function failureOf(error: Error, { calls, request }: AnswerOptions): unknown {
  if (!(error instanceof NotFiniteError)) return asProductError(error, calls);
  const [code, message] =
    request.adapter === null
      ? ([
          'model_file_corrupt',
          'The base model computes numbers that are not finite. Its files may be damaged.',
        ] as const)
      : ([
          'invalid_adapter',
          'The model computes numbers that are not finite with this adapter. Its weights are too large.',
        ] as const);
  return new ProductError(code, message, { param: 'model', cause: error });
}

function constraintOf(schema: unknown, { context, text, calls }: AnswerOptions): () => TokenConstraint {
  try {
    return context.grammarsOf(text).of(schema);
  } catch (error) {
    throw asProductError(error, calls);
  }
}

/** A schema that is too large is the fault of its request: each tool may be within the limits, but not all of them together. */
function asProductError(error: unknown, calls: AnswerCalls | null): unknown {
  if (!(error instanceof GrammarTooLargeError || error instanceof SchemaError)) return error;
  const param = calls === null ? 'response_format' : 'tools';
  return new ProductError('invalid_request', error.message, { param, cause: error });
}

function samplingOf(request: GenerationRequest): Sampling {
  return {
    temperature: request.temperature,
    topP: request.top_p,
    topK: request.top_k,
    minP: request.min_p,
    presencePenalty: request.presence_penalty,
    frequencyPenalty: request.frequency_penalty,
    repetitionPenalty: request.repetition_penalty,
    seed: request.seed,
  };
}

function checkLength(length: number, { input, max_tokens: maxTokens, n }: GenerationRequest, space: number): void {
  const param = input.kind === 'chat' ? 'messages' : 'prompt';
  if (length === 0) throw new ProductError('invalid_request', 'The prompt has no tokens.', { param });
  if (length + Math.min(maxTokens, 1) <= space) return;
  const answers = n === 1 ? '' : ` for each of ${n} answers`;
  const message = `The prompt has ${length} tokens; there is space for ${space}${answers}, with what is generated. Shorten it.`;
  throw new ProductError('context_length_exceeded', message, { param });
}

function impossible(error: RangeError): ProductError {
  return new ProductError('invalid_request', error.message, { param: 'prompt', cause: error });
}
