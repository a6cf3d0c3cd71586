import { type JobSpec, type NewJobEvent, objectiveContract } from '@lorasmith/contracts';

/** The tokens that an attempt has read, and the time that remains, according to its events. */
export class JobUsage {
  /** Null for a job that samples no answers. */
  readonly #sampling: { answers: number; updates: number } | null;
  #step = 0;
  #totalSteps: number | null = null;
  /** The tokens of its rows; where answers are sampled, of its prompts. */
  #tokensPerStep = 0;
  #answersPerStep = 0;
  #totalSeconds: number | null = null;

  constructor({ objective }: Pick<JobSpec, 'objective'>) {
    this.#sampling = (objective && objectiveContract(objective.kind).rewards?.(objective)) ?? null;
  }

  /** The tokens that were read since the event before: on average over the steps, and those of an evaluation. */
  tokensUntil(event: NewJobEvent): number {
    switch (event.type) {
      case 'report-ready': {
        const { tokens, steps, estimate, groups } = event.data.report;
        this.#totalSteps = steps.total;
        this.#tokensPerStep = steps.total === 0 ? 0 : tokens.total / steps.total;
        if (this.#sampling !== null && groups !== undefined) {
          const { answers, updates } = this.#sampling;
          this.#answersPerStep = (groups.prompts * answers * updates) / steps.per_epoch;
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
    return this.#tokensPerStep * this.#sampling.answers + this.#answersPerStep * answerLength;
  }

  /** Seconds of training that remain, if it trains alone; undefined: unknown. */
  get secondsLeft(): number | undefined {
    if (this.#totalSteps === null || this.#totalSeconds === null) return undefined;
    return this.#totalSeconds * Math.max(0, 1 - this.#step / Math.max(1, this.#totalSteps));
  }
}
