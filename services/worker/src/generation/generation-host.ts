import { Semaphore } from '@lorasmith/concurrency';
import {
  type GenerationPiece,
  type GenerationRequest,
  JobDeferred,
  type MachineProfile,
  ProductError,
} from '@lorasmith/contracts';
import {
  conversationOf,
  type ModelFolder,
  type ModelText,
  type ModelTexts,
  readModelFolder,
  stopTokenIds,
  WeightDigests,
} from '@lorasmith/model-folder';
import { cacheBytes, Decoder, type GenerationHandle, type Sampling } from '@lorasmith/models';
import { bytesPerWeight } from '@lorasmith/planning';
import { BaseModelCache, engineError, type HeldBase, precisionHere, type TextGenerator } from '@lorasmith/training';
import type { MemoryLedger } from '../trainer/memory-ledger.js';
import type { GenerationOrder, TokenCounts } from '../trainer/messages.js';
import type { AnswerCallbacks } from '../trainer/trainer-process.js';
import { ChoiceText } from './choice-text.js';
import { cacheTokensOf, GenerationContext, type GenerationMemory } from './generation-context.js';

export interface GenerationHostOptions {
  cache: BaseModelCache;
  texts: ModelTexts;
  memory: GenerationMemory;
  /** Where this memory is counted. */
  ledger: Pick<MemoryLedger, 'reserve'>;
  onLoading: (progress: { readBytes: number; totalBytes: number }) => void;
  /** Called when there is something to generate: {@link GenerationHost.step} is then wanted. */
  onWork: () => void;
  /** Does work that awaits files beside jobs that train. @defaultValue as if none trained */
  beside?: <Result>(work: () => Promise<Result>) => Promise<Result>;
}

interface PreparedAnswer {
  context: GenerationContext;
  text: ModelText;
  prompts: readonly PromptTokens[];
  adapter: Parameters<GenerationContext['generation']['add']>[0]['adapter'];
}

/** A base model in one precision, and what answers with it need. */
interface Place {
  cache: BaseModelCache;
  context: GenerationContext | null;
  /** No longer counts the memory of the context. */
  release: () => void;
}

/** Frees what answers need. Nobody may be generating with it. */
function close(place: Place): void {
  place.context?.dispose();
  place.context = null;
  place.release();
  place.release = () => {};
}

/** How long cache and adapters stay in memory after the last answer. */
const IDLE_MS = 60_000;

/**
 * Answers requests for text, a step at a time, with the base model that this process has in memory. Text is computed in the
 * precision of its order: if the runs have the base model in the other one, it gets a copy of its own.
 */
export class GenerationHost implements TextGenerator {
  readonly #options: GenerationHostOptions;
  /** The place for text with the base model of the runs. */
  readonly #shared: Place;
  /** The place for text with the base model in the other precision. */
  readonly #own: Place = { cache: new BaseModelCache(), context: null, release: () => {} };
  /** No longer counts the base model of its own. */
  #releaseOwnModel = () => {};
  #answers = 0;
  #idle: NodeJS.Timeout | undefined;
  readonly #openings = new Semaphore(1);
  /** Ends each answer that is being generated. */
  readonly #failures = new Set<(error: unknown) => void>();

  constructor(options: GenerationHostOptions) {
    this.#options = options;
    this.#shared = { cache: options.cache, context: null, release: () => {} };
  }

  hasWork(): boolean {
    return [this.#shared, this.#own].some(({ context }) => context?.generation.hasWork);
  }

  step(): void {
    for (const { context } of [this.#shared, this.#own]) {
      if (context?.generation.hasWork) context.generation.step();
    }
  }

  fail(error: unknown): void {
    for (const fail of [...this.#failures]) fail(error);
  }

  /**
   * Answers one request.
   * @returns the numbers of tokens; null once the signal is aborted
   * @throws ProductError for a request that cannot be answered, and what the engine throws
   */
  async generate(order: GenerationOrder, { signal, onPiece }: AnswerCallbacks): Promise<TokenCounts | null> {
    const { request } = order;
    const { beside = (work) => work() } = this.#options;
    const releases: (() => void)[] = [];
    this.#answers++;
    clearTimeout(this.#idle);
    try {
      const prepared = await beside(() => this.#prepare(order, releases));
      if (signal.aborted) return null;
      onPiece({ type: 'start', precision: prepared.context.decoder.dtype });
      // Whoever got the piece may have left with it.
      if (signal.aborted) return null;
      return await this.#generate({ request, ...prepared, signal, onPiece });
    } catch (error) {
      if (error instanceof JobDeferred) throw busy(error);
      throw engineError(error, 'Try again when less is running.');
    } finally {
      for (const release of releases.reverse()) release();
      this.#answers--;
      if (this.#answers === 0) this.#idle = setTimeout(() => this.yieldMemory(), IDLE_MS).unref();
    }
  }

  /** @param releases gets what frees each thing that is held for the answer */
  async #prepare(order: GenerationOrder, releases: (() => void)[]): Promise<PreparedAnswer> {
    const { request, modelFolder, adapterFolder } = order;
    const folder = await readModelFolder(modelFolder);
    // Before the base model is loaded: what is wrong with a prompt is known without it.
    const text = await this.#options.texts.of(modelFolder);
    const prompts = await promptsOf(request, text, folder);
    const { context, held } = await this.#open(folder, order);
    releases.push(held.release);
    if (request.adapter === null) return { context, text, prompts, adapter: null };
    const { adapter, release } = await context.adapters.hold(request.adapter, adapterFolder ?? '');
    releases.push(release);
    return { context, text, prompts, adapter };
  }

  /** What answers need, on the base model in memory or on the one that is then loaded. One call at a time. */
  #open(folder: ModelFolder, order: GenerationOrder): Promise<{ context: GenerationContext; held: HeldBase }> {
    return this.#openings.run(() => this.#openNow(folder, order));
  }

  async #openNow(folder: ModelFolder, order: GenerationOrder) {
    const { weightDigests, machine, precision, trainerPrecision } = order;
    const dtype = precisionHere(precision, folder.architecture.family, machine).chosen;
    const inTrainer = this.#shared.cache.dtypeOf(folder.name) ?? trainerPrecision;
    const place = inTrainer === dtype || inTrainer === 'auto' ? this.#shared : this.#own;
    if (place === this.#own && place.cache.dtypeOf(folder.name) !== dtype) {
      this.#uncountOwnModel();
      this.#releaseOwnModel = this.#options.ledger.reserve(folder.parameterCount * bytesPerWeight(dtype), machine);
    }
    const digests = new WeightDigests(weightDigests);
    const held = await place.cache.hold(folder, dtype, { digests, onProgress: this.#options.onLoading });
    try {
      if (!(held.model instanceof Decoder)) {
        throw new ProductError('model_not_supported', `${folder.name} generates no text.`, { param: 'model' });
      }
      if (place.context?.decoder !== held.model) {
        // The model before was freed, since nobody held it: nobody generates with it.
        close(place);
        this.#fill(place, held.model, { name: folder.name, weights_sha256: held.weightsSha256 }, machine);
      }
      return { context: place.context!, held };
    } catch (error) {
      held.release();
      throw error;
    }
  }

  #fill(
    place: Place,
    decoder: Decoder,
    base: { name: string; weights_sha256: string },
    machine: MachineProfile | null,
  ): void {
    const { memory, ledger } = this.#options;
    const { adapterBytes } = memory;
    const cacheTokens = cacheTokensOf(decoder, memory);
    place.release = ledger.reserve(cacheBytes(decoder, cacheTokens) + adapterBytes, machine);
    place.context = new GenerationContext({ decoder, base, cacheTokens, adapterBytes });
  }

  /** Frees cache, adapters and a base model of its own if nothing is being answered: a job may need the memory. */
  yieldMemory(): void {
    if (this.#answers > 0) return;
    close(this.#shared);
    close(this.#own);
    this.#own.cache.dispose();
    this.#uncountOwnModel();
  }

  #uncountOwnModel(): void {
    this.#releaseOwnModel();
    this.#releaseOwnModel = () => {};
  }

  #generate(
    options: PreparedAnswer & {
      request: GenerationRequest;
      signal: AbortSignal;
      onPiece: (piece: GenerationPiece) => void;
    },
  ): Promise<TokenCounts | null> {
    const { request, prompts, context, text, adapter, signal, onPiece } = options;
    const { tokenizer } = text;
    const space = context.spaceFor(request.n);
    for (const { ids } of prompts) checkLength(ids.length, request, space);
    const stopIds = stopTokenIds(context.decoder.architecture, tokenizer);
    const isEcho = request.input.kind === 'text' && request.input.echo;
    const tokens: TokenCounts = { prompt: prompts.reduce((sum, { ids }) => sum + ids.length, 0), completion: 0 };
    const handles: GenerationHandle[] = [];

    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        signal.removeEventListener('abort', onAbort);
        this.#failures.delete(fail);
        for (const handle of handles) handle.cancel();
        settle();
      };
      const fail = (error: unknown) => end(() => reject(error));
      const onAbort = () => end(() => resolve(null));
      signal.addEventListener('abort', onAbort, { once: true });
      this.#failures.add(fail);
      let open = prompts.length * request.n;
      const finished = () => {
        open--;
        if (open === 0) end(() => resolve(tokens));
      };
      try {
        for (const [index, prompt] of prompts.entries()) {
          const choices = Array.from({ length: request.n }, (_, choice) => {
            return new ChoiceText({
              choice: index * request.n + choice,
              promptIds: prompt.ids,
              tokenizer,
              tokenTexts: context.tokenTextsOf(text),
              stop: request.stop,
              onPiece,
            });
          });
          if (isEcho) {
            for (const choice of choices) {
              if (request.logprobs === null) choice.echo(prompt.text ?? tokenizer.decode(prompt.ids));
              else choice.echoToken(prompt.ids[0]!, null, prompt.isText(0));
            }
          }
          const handle = context.generation.add(
            {
              promptIds: prompt.ids,
              adapter,
              maxNewTokens: Math.min(request.max_tokens, space - prompt.ids.length),
              sampling: samplingOf(request),
              stopIds,
              choices: request.n,
              logprobs: request.logprobs,
              promptLogprobs: isEcho ? request.logprobs : null,
            },
            (event) => {
              switch (event.kind) {
                case 'prompt-scored':
                  for (const choice of choices) {
                    choice.echoToken(event.token.id, event.token, prompt.isText(event.position));
                  }
                  break;
                case 'token':
                  tokens.completion++;
                  if (!choices[event.choice]!.push(event.id, event.scored)) break;
                  handle.cancel(event.choice);
                  finished();
                  break;
                case 'ended':
                  choices[event.choice]!.finish(event.reason);
                  finished();
                  break;
                case 'failed':
                  fail(event.error);
              }
            },
          );
          handles.push(handle);
        }
      } catch (error) {
        fail(error instanceof RangeError ? impossible(error) : error);
        return;
      }
      this.#options.onWork();
    });
  }
}

interface PromptTokens {
  ids: Int32Array;
  /** null: it was sent as tokens, or as a conversation. */
  text: string | null;
  /** Whether the token at this position is a part of the text, and not one that the tokenizer has added. */
  isText(position: number): boolean;
}

/** @throws ProductError `invalid_request` without a chat template; `chat_template_failed` */
async function promptsOf(
  { input, logprobs }: GenerationRequest,
  text: ModelText,
  { name }: ModelFolder,
): Promise<PromptTokens[]> {
  const isText = () => true;
  if (input.kind === 'chat') {
    const ids = await text.tokensOf(conversationOf(input));
    if (ids !== null) return [{ ids, text: null, isText }];
    const message = `The base model ${name} has no chat template. Use POST /v1/completions.`;
    throw new ProductError('invalid_request', message, { param: 'messages' });
  }
  const isScored = input.echo && logprobs !== null;
  return input.prompts.map((prompt) => {
    if (typeof prompt !== 'string') return { ids: Int32Array.from(prompt), text: null, isText };
    const ids = text.tokenizer.encodeWithSpecialTokens(prompt);
    return { ids, text: prompt, isText: isScored ? textWithin(ids, text.tokenizer.encode(prompt)) : isText };
  });
}

function samplingOf(request: GenerationRequest): Sampling {
  return {
    temperature: request.temperature,
    topP: request.top_p,
    topK: request.top_k,
    presencePenalty: request.presence_penalty,
    frequencyPenalty: request.frequency_penalty,
    repetitionPenalty: request.repetition_penalty,
    seed: request.seed,
  };
}

/** Which tokens are those of the text alone. */
function textWithin(ids: Int32Array, alone: Int32Array): (position: number) => boolean {
  let first = 0;
  while (first < ids.length - alone.length && !alone.every((id, i) => ids[first + i] === id)) first++;
  return (position) => position >= first && position < first + alone.length;
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

function busy(cause: JobDeferred): ProductError {
  return new ProductError('service_unavailable', `${cause.message} Try again later.`, { retryAfterSeconds: 10, cause });
}
