/** What answers conversations with the base model, in small pieces. */
export interface Speaker {
  /** Whether a conversation waits for a piece. */
  hasWork(): boolean;
  /** Does one piece, of at most about 100 ms: a token for each conversation, or a part of a prompt. */
  step(): void;
  /** Ends all conversations, after {@link step} has thrown. Nothing waits for a piece after it. */
  fail(error: unknown): void;
}

/** Divides the time of the engine between trainings and speech. */
export class SpeechTime {
  readonly #share: number;
  readonly #now: () => number;
  /** Milliseconds that speech may still take; below 0: that it had beyond its share. */
  #credit = 0;

  /** @param share of the time that speech gets while both have work, 0 to 1 */
  constructor(share: number, now: () => number = () => performance.now()) {
    this.#share = share;
    this.#now = now;
  }

  /** Whether speech is next. It gets its first piece at once, and all of the time when nothing trains. */
  isDue(speaker: Speaker | null, trainingWaits: boolean): boolean {
    return speaker?.hasWork() === true && (!trainingWaits || this.#credit >= 0);
  }

  speak(speaker: Speaker, trainingWaits: boolean): void {
    const ms = this.#timed(() => {
      try {
        speaker.step();
      } catch (error) {
        speaker.fail(error);
      }
    });
    if (trainingWaits) this.#credit -= ms * (1 - this.#share);
  }

  /** @returns milliseconds that it took */
  train(speaker: Speaker | null, work: () => void): number {
    const ms = this.#timed(work);
    this.#credit += ms * this.#share;
    // Time that speech did not need is not saved up.
    if (!speaker?.hasWork()) this.#credit = Math.min(this.#credit, 0);
    return ms;
  }

  #timed(work: () => void): number {
    const startMs = this.#now();
    work();
    return this.#now() - startMs;
  }
}
