/** A source of answers by the base model, which generates them in small pieces. */
export interface TextGenerator {
  /** Whether a conversation waits for a piece. */
  hasWork(): boolean;
  /** Does one piece, of at most about 100 ms: a token for each conversation, or a part of a prompt. */
  step(): void;
  /** Ends all conversations, after {@link step} has thrown. Nothing waits for a piece after it. */
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

  /** Whether generation is next. It gets its first piece at once, and all of the time when nothing trains. */
  isDue(generator: TextGenerator | null, trainingWaits: boolean): boolean {
    return generator?.hasWork() === true && (!trainingWaits || this.#credit >= 0);
  }

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

  /** @returns milliseconds that it took */
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
