import {
  type Evaluation,
  type JobEvaluation,
  type JobProgress,
  type JobSpec,
  type NewJobEvent,
  objectiveContract,
  ProductError,
} from '@lorasmith/contracts';
import type { RecordChange } from './record-change.js';

/** The changes of a record that an event of a trainer reports. */
export function changeOf(event: NewJobEvent): Pick<RecordChange, 'to' | 'fields'> {
  switch (event.type) {
    case 'report-ready':
      return { to: 'running', fields: [['report', JSON.stringify(event.data.report)]] };
    case 'step-finished': {
      const { step, total_steps, epoch, loss, tokens_per_second, seconds_left } = event.data;
      const progress: JobProgress = { step, total_steps, epoch, loss, tokens_per_second, seconds_left };
      return { fields: [['progress', JSON.stringify(progress)]] };
    }
    case 'evaluation-finished': {
      const { step, ...evaluation } = event.data;
      return { fields: evaluationFields(step, evaluation) };
    }
    case 'tokenizing-progressed':
    case 'reference-progressed':
    case 'samples-generated':
    case 'answers-graded':
    case 'checkpoint-saved':
    case 'checkpoint-loaded':
    case 'training-stopped-early':
      return {};
    default:
      throw new ProductError('internal_error', `A trainer may not write the event ${event.type}.`);
  }
}

/** The field of the evaluation after this step, if there is one. */
export function evaluationFields(step?: number, evaluation?: Evaluation | null): [string, string][] {
  if (step === undefined || !evaluation) return [];
  const { loss, accuracy, group } = evaluation;
  const kept: JobEvaluation = { step, loss, accuracy, reward: group?.reward ?? null };
  return [['evaluation', JSON.stringify(kept)]];
}

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
