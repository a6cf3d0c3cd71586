import type { GroupRelativeObjective, JobSpec, NewJobEvent } from '@lorasmith/contracts';

/** The tokens that an attempt has read, and the time that remains, according to its events. */
export class JobUsage {
  /** Null for a job that samples no answers. */
  readonly #sampling: GroupRelativeObjective | null;
  #step = 0;
  #totalSteps: number | null = null;
  /** The tokens of its rows; where answers are sampled, of its prompts. */
  #tokensPerStep = 0;
  #answersPerStep = 0;
  #totalSeconds: number | null = null;

  constructor({ objective }: Pick<JobSpec, 'objective'>) {
    this.#sampling = objective?.kind === 'group-relative' ? objective : null;
  }

  /** The tokens that were read since the event before: on average over the steps, and those of an evaluation. */
  tokensUntil(event: NewJobEvent): number {
    switch (event.type) {
      case 'report-ready': {
        const { tokens, steps, estimate, groups } = event.data.report;
        this.#totalSteps = steps.total;
        this.#tokensPerStep = steps.total === 0 ? 0 : tokens.total / steps.total;
        if (this.#sampling !== null && groups !== undefined) {
          const { group_size: size, updates_per_batch: updates } = this.#sampling;
          this.#answersPerStep = (groups.prompts * size * updates) / steps.per_epoch;
        }
        this.#totalSeconds = estimate?.total_seconds ?? null;
        return 0;
      }
      case 'checkpoint-loaded':
        this.#step = event.data.step;
        return 0;
      case 'step-finished': {
        const steps = Math.max(0, event.data.step - this.#step);
        this.#step = event.data.step;
        return Math.round(steps * this.#tokensOfStep(event.data.group?.['completions/mean_length'] ?? 0));
      }
      case 'evaluation-finished':
        return event.data.tokens;
      default:
        return 0;
    }
  }

  /** @param answerLength - The mean length of the sampled answers. Each is read after its prompt. */
  #tokensOfStep(answerLength: number): number {
    if (this.#sampling === null) return this.#tokensPerStep;
    return this.#tokensPerStep * this.#sampling.group_size + this.#answersPerStep * answerLength;
  }

  /** Seconds of training that remain, if it trains alone; undefined: unknown. */
  get secondsLeft(): number | undefined {
    if (this.#totalSteps === null || this.#totalSeconds === null) return undefined;
    return this.#totalSeconds * Math.max(0, 1 - this.#step / Math.max(1, this.#totalSteps));
  }
}
