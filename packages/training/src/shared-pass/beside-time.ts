import { setImmediate, setTimeout } from 'node:timers/promises';

/** The time that passes leave to work beside them, as a part of their own, and the most of it that is saved up. */
const SHARE = 0.1;
const MOST_SAVED_MS = 50;

/** The work of one job beside the passes. */
export interface BesideWork {
  /** @param headStartMs time that the work gets at once. @defaultValue 0 */
  during<Result>(work: () => Promise<Result>, headStartMs?: number): Promise<Result>;
  /** Work under way needs no time while it waits for a turn. */
  whileWaiting<Result>(wait: () => Promise<Result>): Promise<Result>;
}

/** Leaves time between passes to work that awaits files and threads, while there is such work. */
export class BesideTime {
  /** Works under way that wait for no turn. */
  #count = 0;
  /** Milliseconds that the passes owe to them. */
  #owedMs = 0;
  #onNone: () => void = () => {};

  open(): BesideWork {
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

  /** Lets the event loop do the work beside for as long as is owed, or until there is none. */
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
