/** The time that a self-test may take. A slow host needs much of it, and is no fault of the card. */
export interface SelfTestLimits {
  /** A process in which a case has not ended for this long hangs. */
  silenceMs: Record<'card' | 'cpu', number>;
  /** The time of the whole test without its cases. */
  startMs: number;
  /** The time that each case adds once it has ended, on the card and on the CPU. */
  caseMs: number;
}

/** Limits for a host with two slow cores. Starting the driver and loading every kernel is part of the first case. */
export const SELF_TEST_LIMITS: SelfTestLimits = {
  silenceMs: { card: 120_000, cpu: 300_000 },
  startMs: 300_000,
  caseMs: 2_000,
};

/** A limit of time that grows as the work continues. */
export class TestLimit {
  readonly #controller = new AbortController();
  #deadlineMs: number;
  #timer: NodeJS.Timeout | undefined;

  /** Starts the time. */
  constructor(startMs: number) {
    this.#deadlineMs = performance.now() + startMs;
    this.#wait();
  }

  /** Aborted once the time is over. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  extend(ms: number): void {
    this.#deadlineMs += ms;
    this.#wait();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #wait(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(), this.#deadlineMs - performance.now());
  }
}
