import type { NewJobEvent } from '@lorasmith/contracts';

/** The tokens that an attempt has read, and the time that remains, according to its events. */
export class JobUsage {
  #step = 0;
  #totalSteps: number | null = null;
  #tokensPerStep = 0;
  #totalSeconds: number | null = null;

  /** The tokens that were read since the event before: on average over the steps, and those of an evaluation. */
  tokensUntil(event: NewJobEvent): number {
    switch (event.type) {
      case 'report-ready': {
        const { tokens, steps, estimate } = event.data.report;
        this.#totalSteps = steps.total;
        this.#tokensPerStep = steps.total === 0 ? 0 : tokens.total / steps.total;
        this.#totalSeconds = estimate?.total_seconds ?? null;
        return 0;
      }
      case 'checkpoint-loaded':
        this.#step = event.data.step;
        return 0;
      case 'step-finished': {
        const steps = Math.max(0, event.data.step - this.#step);
        this.#step = event.data.step;
        return Math.round(steps * this.#tokensPerStep);
      }
      case 'evaluation-finished':
        return event.data.tokens;
      default:
        return 0;
    }
  }

  /** Seconds of training that remain, if it trains alone; undefined: unknown. */
  get secondsLeft(): number | undefined {
    if (this.#totalSteps === null || this.#totalSeconds === null) return undefined;
    return this.#totalSeconds * Math.max(0, 1 - this.#step / Math.max(1, this.#totalSteps));
  }
}
