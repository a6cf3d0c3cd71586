import { Semaphore } from '@lorasmith/concurrency';
import { JobDeferred, type MachineProfile, ProductError } from '@lorasmith/contracts';
import {
  type ModelFolder,
  type ModelTexts,
  readModelFolder,
  WeightDigests,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { Decoder } from '@lorasmith/models';
import { weightMemory } from '@lorasmith/planning';
import {
  type BaseForm,
  BaseModelCache,
  checkEngineHere,
  engineError,
  type LeasedBase,
  precisionHere,
  type TextGenerator,
} from '@lorasmith/training';
import type { MemoryLedger } from '../trainer/memory-ledger.js';
import type { GenerationOrder, TokenCounts } from '../trainer/messages.js';
import type { AnswerCallbacks } from '../trainer/trainer-process.js';
import { Answer, type PreparedRequest } from './answer.js';
import { cacheTokensOf, GenerationContext, type GenerationMemory, generationBytes } from './generation-context.js';
import { promptsOf } from './prompt-tokens.js';
import { callsOf } from './tool-calls.js';

export interface GenerationHostOptions {
  cache: BaseModelCache;
  texts: ModelTexts;
  memory: GenerationMemory;
  /** The ledger that counts this memory. */
  ledger: Pick<MemoryLedger, 'reserve'>;
  onLoading: (progress: { readBytes: number; totalBytes: number }) => void;
  /** Called when there is something to generate: {@link GenerationHost.step} is then wanted. */
  onWork: () => void;
  /** Does work that awaits files while jobs train. @defaultValue as if none trained */
  whileTraining?: <Result>(work: () => Promise<Result>) => Promise<Result>;
}

/** A base model in one form, and what answers with it need. */
interface BaseSlot {
  cache: BaseModelCache;
  context: GenerationContext | null;
  /** No longer counts the memory of the context. */
  release: () => void;
}

/** Frees what answers need. Nobody may be generating with it. */
function close(slot: BaseSlot): void {
  slot.context?.dispose();
  slot.context = null;
  slot.release();
  slot.release = () => {};
}

/** The time that cache and adapters stay in memory after the last answer. */
const IDLE_MS = 60_000;

/**
 * Answers requests for text, a step at a time, with the base model that this process has in memory. Text is computed with it in
 * the form of its order, precision and quantization: if the runs have the base model in another one, it gets a copy of its own.
 */
export class GenerationHost implements TextGenerator {
  readonly #options: GenerationHostOptions;
  /** The base model of the runs. */
  readonly #shared: BaseSlot;
  /** The base model in another form. */
  readonly #own: BaseSlot;
  /** No longer counts the base model of its own. */
  #releaseOwnModel = () => {};
  #answers = 0;
  #idle: NodeJS.Timeout | undefined;
  readonly #openings = new Semaphore(1);
  readonly #generating = new Set<Answer>();

  constructor(options: GenerationHostOptions) {
    this.#options = options;
    this.#own = { cache: new BaseModelCache(options.cache.kernels), context: null, release: () => {} };
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
    for (const answer of [...this.#generating]) answer.fail(error);
  }

  /**
   * Answers one request.
   * @returns the numbers of tokens; null once the signal is aborted
   * @throws ProductError for a request that cannot be answered, and what the engine throws
   */
  async generate(order: GenerationOrder, { signal, onChunk }: AnswerCallbacks): Promise<TokenCounts | null> {
    const { request } = order;
    const { whileTraining = (work) => work() } = this.#options;
    const releases: (() => void)[] = [];
    this.#answers++;
    clearTimeout(this.#idle);
    try {
      const prepared = await whileTraining(() => this.#prepare(order, releases));
      if (signal.aborted) return null;
      onChunk({ type: 'start', precision: prepared.context.decoder.dtype });
      // Whoever got the chunk may have left with it.
      if (signal.aborted) return null;
      return await this.#answer(new Answer({ request, ...prepared, signal, onChunk }));
    } catch (error) {
      if (error instanceof JobDeferred) throw busy(error);
      throw engineError(error, 'Try again when less is running.');
    } finally {
      for (const release of releases.reverse()) release();
      this.#answers--;
      if (this.#answers === 0) this.#idle = setTimeout(() => this.yieldMemory(), IDLE_MS).unref();
    }
  }

  async #answer(answer: Answer): Promise<TokenCounts | null> {
    answer.begin();
    this.#generating.add(answer);
    this.#options.onWork();
    return await answer.done.finally(() => this.#generating.delete(answer));
  }

  /** @param releases gets what frees each thing that is leased for the answer */
  async #prepare(order: GenerationOrder, releases: (() => void)[]): Promise<PreparedRequest> {
    const { request, modelFolder, adapterFolder } = order;
    const folder = withBaseQuantization(await readModelFolder(modelFolder), order.quantization);
    // Before the base model is loaded: what is wrong with a prompt is known without it.
    const text = await this.#options.texts.of(modelFolder);
    const calls = await callsOf(request, text);
    const prompts = await promptsOf(request, text, folder, calls?.begun);
    const { context, base } = await this.#open(folder, order);
    releases.push(base.release);
    if (request.adapter === null) return { context, text, prompts, calls, adapter: null };
    const { adapter, release } = await context.adapters.lease(request.adapter, adapterFolder ?? '');
    releases.push(release);
    return { context, text, prompts, calls, adapter };
  }

  /** The context of answers, on the base model in memory or on the one that is then loaded. One call at a time. */
  #open(folder: ModelFolder, order: GenerationOrder): Promise<{ context: GenerationContext; base: LeasedBase }> {
    return this.#openings.run(() => this.#openNow(folder, order));
  }

  async #openNow(folder: ModelFolder, order: GenerationOrder) {
    const { weightDigests, machine, precision, quantization, inTrainer } = order;
    checkEngineHere(folder);
    const dtype = precisionHere(precision, folder.architecture.family, machine, this.#options.cache.kernels).chosen;
    const isForm = (form: BaseForm | null) => form?.dtype === dtype && form.quantization === quantization;
    const loaded = this.#shared.cache.formOf(folder.name) ?? {
      dtype: inTrainer.precision === 'auto' ? dtype : inTrainer.precision,
      quantization: inTrainer.quantization,
    };
    const slot = isForm(loaded) ? this.#shared : this.#own;
    if (slot === this.#own && !isForm(slot.cache.formOf(folder.name))) {
      slot.cache.requireFree(folder.name, { dtype, quantization });
      this.#freeOwnModel();
      this.#releaseOwnModel = this.#options.ledger.reserve(weightMemory(folder, dtype, machine?.kernels), machine);
    }
    const digests = new WeightDigests(weightDigests);
    const base = await slot.cache.lease(folder, dtype, { digests, onProgress: this.#options.onLoading });
    try {
      if (!(base.model instanceof Decoder)) {
        throw new ProductError('model_not_supported', `${folder.name} generates no text.`, { param: 'model' });
      }
      if (slot.context?.decoder !== base.model) {
        // The model before was freed, since nobody used it: nobody generates with it.
        close(slot);
        this.#fill(slot, base.model, { name: folder.name, weights_sha256: base.weightsSha256 }, machine);
      }
      return { context: slot.context!, base };
    } catch (error) {
      base.release();
      throw error;
    }
  }

  #fill(
    slot: BaseSlot,
    decoder: Decoder,
    base: { name: string; weights_sha256: string },
    machine: MachineProfile | null,
  ): void {
    const { memory, ledger } = this.#options;
    const { adapterBytes } = memory;
    const cacheTokens = cacheTokensOf(decoder, memory);
    slot.release = ledger.reserve(generationBytes(decoder, cacheTokens) + adapterBytes, machine);
    slot.context = new GenerationContext({ decoder, base, cacheTokens, adapterBytes });
  }

  /** Frees cache, adapters and a base model of its own if nothing is being answered: a job may need the memory. */
  yieldMemory(): void {
    if (this.#answers > 0) return;
    close(this.#shared);
    this.#freeOwnModel();
  }

  /** Frees the base model of its own, which nobody uses, with what answers on it have kept. */
  #freeOwnModel(): void {
    close(this.#own);
    this.#own.cache.dispose();
    this.#releaseOwnModel();
    this.#releaseOwnModel = () => {};
  }
}

function busy(cause: JobDeferred): ProductError {
  return new ProductError('service_unavailable', `${cause.message} Try again later.`, { retryAfterSeconds: 10, cause });
}
