import { setImmediate } from 'node:timers/promises';
import { ALL_LAYERS } from '@lorasmith/models';
import { SHARED_PASS_TOKENS } from '@lorasmith/planning';
import { isOutOfMemory } from '../engine-here.js';
import { ConcurrentTime, GenerationTime, type InTimeSlice, type TextGenerator, throwIfStopped } from './engine-time.js';
import { type Claim, FairShares, type JobAccount, type Share } from './fair-shares.js';
import { canJoin, type MicroBatch, type OwnLoss, runJoined } from './joined-pass.js';

export interface PassSchedulerOptions {
  /**
   * Tokens of a pass that several jobs share; a micro-batch with more is a pass of its own. How long a pass takes is how long a
   * cancel waits. @defaultValue `SHARED_PASS_TOKENS`
   */
  passTokens?: number;
  /** The share of the time that generation gets while jobs train and it has work. @defaultValue 0.25 */
  generationShare?: number;
  /** Called after each pass that trains. */
  onPass?: (pass: FinishedPass) => void;
}

export interface FinishedPass {
  /** Jobs that took part. */
  jobs: number;
  tokens: number;
  seconds: number;
}

/** A job's access to the passes. */
export interface Participant {
  /**
   * Takes part in the next pass that the job is chosen for.
   * @throws ProductError cancelled when the job is stopped before it; and what the engine throws
   */
  lossAndGradients(microBatch: MicroBatch): Promise<OwnLoss>;
  /**
   * Does one call of the engine that is not shared, such as a batch of an evaluation, for the job.
   * @param tokens what it costs, in tokens of a pass that trains; a forward pass alone costs half of its own
   * @param work synchronous, and bounded: no other job computes meanwhile
   * @throws as {@link lossAndGradients}
   */
  inEngineCall: InTimeSlice;
  /**
   * Does work that awaits files, threads and engine calls. While passes run, they leave it some time between them. Otherwise only one
   * file operation would complete per pass.
   * @param headStartMs time that it gets at once. @defaultValue 0
   */
  concurrently<Result>(work: () => Promise<Result>, headStartMs?: number): Promise<Result>;
  /** The job needs no more passes. */
  leave(): void;
}

export interface JoinOptions {
  /** @defaultValue the same as any other job */
  share?: Share | undefined;
  /** Its reason is a StopReason. Whatever waits is then cancelled. @defaultValue never */
  signal?: AbortSignal | undefined;
}

interface Waiting extends Claim {
  work: { kind: 'micro-batch'; microBatch: MicroBatch } | { kind: 'call'; run: () => unknown };
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

const EQUAL: Share = { key: '', keyWeight: 1, jobWeight: 1 };
const GENERATION_SHARE = 0.25;

/**
 * Has the jobs of a process compute in engine calls on the base model that they share. Each job has a loop of its own that awaits
 * its passes: every participant that waits when a pass begins is in it, by fair shares and up to a number of tokens. So a job joins and
 * leaves between two passes, and what one waits for delays no other.
 *
 * A job that is alone waits for nothing but the event loop, which runs before each pass.
 */
export class PassScheduler {
  /** Generates text between the passes. Set it before the first {@link wake} for it. */
  generator: TextGenerator | null = null;
  readonly #shares: FairShares;
  readonly #generation: GenerationTime;
  readonly #onPass: (pass: FinishedPass) => void;
  readonly #concurrent = new ConcurrentTime();
  #passTokens: number;
  #waiting: Waiting[] = [];
  #participants = 0;
  /** Memory has run out although a job was expected to fit. */
  #isShortOfMemory = false;
  #isRunning = false;

  constructor({
    passTokens = SHARED_PASS_TOKENS,
    generationShare = GENERATION_SHARE,
    onPass = () => {},
  }: PassSchedulerOptions = {}) {
    this.#passTokens = passTokens;
    this.#shares = new FairShares(passTokens / 2);
    this.#generation = new GenerationTime(generationShare);
    this.#onPass = onPass;
  }

  join({ share = EQUAL, signal }: JoinOptions = {}): Participant {
    const account = this.#shares.open(share);
    this.#participants++;
    const wait = <Result>(tokens: number, work: Waiting['work']): Promise<Result> =>
      new Promise((resolve, reject) => {
        if (signal !== undefined) throwIfStopped(signal);
        this.#shares.wait(account);
        this.#waiting.push({ account, tokens, work, resolve: resolve as Waiting['resolve'], reject });
        this.wake();
      });
    const onStop = () => this.#cancel(account, signal!);
    signal?.addEventListener('abort', onStop);
    const concurrent = this.#concurrent.open();
    return {
      lossAndGradients: (microBatch) => wait(microBatch.batch.computed, { kind: 'micro-batch', microBatch }),
      inEngineCall: <Result>(tokens: number, run: () => Result) =>
        concurrent.whileWaiting(() => wait<Result>(tokens, { kind: 'call', run })),
      concurrently: (work, headStartMs) => concurrent.during(work, headStartMs),
      leave: () => {
        signal?.removeEventListener('abort', onStop);
        this.#shares.close(account);
        this.#participants--;
      },
    };
  }

  /** {@link Participant.concurrently} for work that belongs to no job, such as preparing what the {@link generator} shall do. */
  concurrently<Result>(work: () => Promise<Result>, headStartMs?: number): Promise<Result> {
    return this.#concurrent.open().during(work, headStartMs);
  }

  /** Called when the {@link generator} has new work. */
  wake(): void {
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0 || this.generator?.hasWork()) {
      // A participant that has just got a result asks again, and messages come in.
      await setImmediate();
      await this.#concurrent.pause();
      const trainingWaits = this.#waiting.length > 0;
      if (this.#generation.isDue(this.generator, trainingWaits))
        this.#generation.generate(this.generator!, trainingWaits);
      else this.#concurrent.earn(this.#generation.train(this.generator, () => this.#pass()));
    }
    this.#isRunning = false;
  }

  /** Runs one pass, or one call that is not shared. */
  #pass(): void {
    const chosen = this.#shares.choose(this.#waiting, (those, next) => this.#joins(those, next));
    this.#waiting = this.#waiting.filter((one) => !chosen.includes(one));
    const microBatches: MicroBatch[] = [];
    for (const { work, resolve, reject } of chosen) {
      if (work.kind === 'micro-batch') microBatches.push(this.#withinMemory(work.microBatch));
      else settle(resolve, reject, work.run);
    }
    if (microBatches.length === 0) return;
    const startMs = performance.now();
    const tokens = microBatches.reduce((sum, { batch }) => sum + batch.computed, 0);
    const results = runJoined(microBatches, (reason, failed) => {
      if (!isOutOfMemory(reason)) return;
      if (failed.length > 1) this.#passTokens = Math.floor(tokens / 2);
      else this.#isShortOfMemory = true;
    });
    this.#onPass({ jobs: microBatches.length, tokens, seconds: (performance.now() - startMs) / 1000 });
    for (const [i, result] of results.entries()) {
      if (result.status === 'fulfilled') chosen[i]!.resolve(result.value);
      else chosen[i]!.reject(result.reason);
    }
  }

  /** The micro-batch for the memory there is. The layers to compute again were chosen for all of it; with less it is all layers, or none. */
  #withinMemory(microBatch: MicroBatch): MicroBatch {
    const hasAllMemory = this.#participants === 1 && !this.#isShortOfMemory;
    if (hasAllMemory || microBatch.recomputedLayers === 0) return microBatch;
    return { ...microBatch, recomputedLayers: ALL_LAYERS };
  }

  #joins(chosen: readonly Waiting[], next: Waiting): boolean {
    const tokens = chosen.reduce((sum, one) => sum + one.tokens, next.tokens);
    const first = chosen[0]!.work;
    return (
      tokens <= this.#passTokens &&
      first.kind === 'micro-batch' &&
      next.work.kind === 'micro-batch' &&
      canJoin(first.microBatch, next.work.microBatch)
    );
  }

  #cancel(account: JobAccount, signal: AbortSignal): void {
    const stopped = this.#waiting.filter((one) => one.account === account);
    this.#waiting = this.#waiting.filter((one) => one.account !== account);
    for (const { reject } of stopped) {
      try {
        throwIfStopped(signal);
      } catch (error) {
        reject(error);
      }
    }
  }
}

function settle(resolve: (result: unknown) => void, reject: (error: unknown) => void, work: () => unknown): void {
  try {
    resolve(work());
  } catch (error) {
    reject(error);
  }
}
