import { setImmediate, setTimeout } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';

/**
 * Does one bounded call of the engine for this job. Other jobs of the process, and its messages, continue before and after it.
 * @param tokens what it costs, in tokens of a pass that trains: a forward pass alone costs half of its own
 */
export type InTimeSlice = <Result>(tokens: number, work: () => Result) => Promise<Result>;

/** The cost of a forward pass, as a share of that of a pass that trains. */
export const FORWARD_SHARE = 0.5;

/**
 * The reason of the signal of a training that stops before it is complete. SavePolicy says which of them save a checkpoint.
 *
 * - `cancel`: the user cancelled the job.
 * - `shutdown`: the worker shuts down.
 * - `time-limit`: the job has used up its time.
 * - `lost-job`: another worker may have the job, so nothing may be written any more.
 */
export type StopReason = 'cancel' | 'shutdown' | 'time-limit' | 'lost-job';

/** Checks that a job is to continue. @throws ProductError cancelled when the signal is aborted */
export function throwIfStopped(signal: AbortSignal): void {
  if (signal.aborted) throw new ProductError('cancelled', `Training was stopped (${String(signal.reason)}).`);
}

/** A source of answers by the base model, which generates them in small steps. */
export interface TextGenerator {
  /** True if a conversation waits for a step. */
  hasWork(): boolean;
  /** Does one step, of at most about 100 ms: a token for each conversation, or a segment of a prompt. */
  step(): void;
  /** Ends all conversations, after {@link step} has thrown. None waits for a step after it. */
  fail(error: unknown): void;
}

/** Divides the time of the engine between trainings and generation. */
export class GenerationTime {
  readonly #share: number;
  readonly #now: () => number;
  /** Milliseconds that generation may still take; below 0: that it had beyond its share. */
  #credit = 0;

  /** @param share of the time that generation gets while both have work, 0 to 1 */
  constructor(share: number, now: () => number = () => performance.now()) {
    this.#share = share;
    this.#now = now;
  }

  /** True if generation is next. It gets its first step at once, and all of the time when nothing trains. */
  isDue(generator: TextGenerator | null, trainingWaits: boolean): boolean {
    return generator?.hasWork() === true && (!trainingWaits || this.#credit >= 0);
  }

  /** Does one step of generation, and counts its time. */
  generate(generator: TextGenerator, trainingWaits: boolean): void {
    const ms = this.#timed(() => {
      try {
        generator.step();
      } catch (error) {
        generator.fail(error);
      }
    });
    if (trainingWaits) this.#credit -= ms * (1 - this.#share);
  }

  /** Does one pass, and counts its time. @returns milliseconds that it took */
  train(generator: TextGenerator | null, work: () => void): number {
    const ms = this.#timed(work);
    this.#credit += ms * this.#share;
    // Time that generation did not need is not saved up.
    if (!generator?.hasWork()) this.#credit = Math.min(this.#credit, 0);
    return ms;
  }

  #timed(work: () => void): number {
    const startMs = this.#now();
    work();
    return this.#now() - startMs;
  }
}

/** The time that passes leave to concurrent work, as a share of their own, and the most of it that is saved up. */
const SHARE = 0.1;
const MOST_SAVED_MS = 50;

/** The work of one job that is concurrent with the passes. */
interface ConcurrentWork {
  /** @param headStartMs time that the work gets at once. @defaultValue 0 */
  during<Result>(work: () => Promise<Result>, headStartMs?: number): Promise<Result>;
  /** Waits for an engine call. Work under way needs no time meanwhile. */
  whileWaiting<Result>(wait: () => Promise<Result>): Promise<Result>;
}

/** Leaves time between passes to work that awaits files and threads, while there is such work. */
export class ConcurrentTime {
  /** Works under way that wait for no engine call. */
  #count = 0;
  /** Milliseconds that the passes owe to them. */
  #owedMs = 0;
  #onNone: () => void = () => {};

  open(): ConcurrentWork {
    let own = 0;
    const set = (count: number) => {
      this.#count += count - own;
      own = count;
      if (this.#count === 0) this.#onNone();
    };
    return {
      during: async (work, headStartMs = 0) => {
        this.#owedMs += headStartMs;
        set(own + 1);
        try {
          return await work();
        } finally {
          set(own - 1);
        }
      },
      whileWaiting: async (wait) => {
        const waiting = own;
        set(0);
        try {
          return await wait();
        } finally {
          set(own + waiting);
        }
      },
    };
  }

  /** Called after a pass. */
  earn(passMs: number): void {
    if (this.#owedMs < MOST_SAVED_MS) this.#owedMs = Math.min(this.#owedMs + SHARE * passMs, MOST_SAVED_MS);
  }

  /** Lets the event loop do the concurrent work for as long as is owed, or until there is none. */
  async pause(): Promise<void> {
    while (this.#count > 0 && this.#owedMs >= 1) {
      const startMs = performance.now();
      const none = new AbortController();
      this.#onNone = () => none.abort();
      await setTimeout(this.#owedMs, undefined, { signal: none.signal }).catch(() => {});
      this.#onNone = () => {};
      // The participant that waited for the work may have more of it.
      await setImmediate();
      this.#owedMs = Math.max(0, this.#owedMs - (performance.now() - startMs));
    }
    if (this.#count === 0) this.#owedMs = 0;
  }
}
