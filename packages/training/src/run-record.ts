import type { CheckpointProgress, CheckpointState } from '@lorasmith/artifacts';
import type { EarlyStopping, Evaluation, SampleRound, TrainingResult } from '@lorasmith/contracts';
import { EvaluationWatch } from './evaluation.js';
import type { StepResult } from './optimizer-step.js';

/** The results of a run: the values of all steps, without the memory of its process. */
export type RunResult = Omit<TrainingResult, 'peak_memory_bytes' | 'losses' | 'accuracies'> &
  Record<'losses' | 'accuracies', ArrayLike<number>>;

/** The part of a checkpoint that the record of a run is restored from. */
export type RecordedState = Pick<CheckpointState, 'losses' | 'accuracies'> & {
  progress: Omit<CheckpointProgress, 'run' | 'parts' | 'adapter'>;
};

/** The record of one run: its losses, counts, time, evaluations and answers to prompts, from its first step on. */
export class RunRecord {
  readonly #watch: EvaluationWatch;
  readonly #startedMs = performance.now();
  #secondsBefore = 0;
  #losses: number[] = [];
  #accuracies: number[] = [];
  #tokens = 0;
  #trainedTokens = 0;
  #epoch = 0;
  #evaluationBefore: Evaluation | null = null;
  #evaluation: Evaluation | null = null;
  #sampleRounds: SampleRound[] = [];

  constructor(earlyStopping: EarlyStopping | null) {
    this.#watch = new EvaluationWatch(earlyStopping);
  }

  /** Continues from a checkpoint of the same run. */
  restore({ losses, accuracies, progress }: RecordedState): void {
    this.#losses = [...losses];
    this.#accuracies = [...accuracies];
    this.#tokens = progress.tokens;
    this.#trainedTokens = progress.trainedTokens;
    this.#epoch = progress.epoch;
    this.#secondsBefore = progress.seconds;
    this.#evaluationBefore = progress.evaluationBefore;
    this.#evaluation = progress.evaluation;
    this.#watch.restore(progress.evaluations);
    this.#sampleRounds = [...progress.samples];
  }

  /** The state that a checkpoint stores. At least one step is done. */
  get state(): RecordedState {
    return {
      losses: Float32Array.from(this.#losses),
      accuracies: Float32Array.from(this.#accuracies),
      progress: {
        tokens: this.#tokens,
        trainedTokens: this.#trainedTokens,
        seconds: this.#seconds,
        epoch: this.#epoch,
        trainLoss: this.#losses.at(-1)!,
        evaluationBefore: this.#evaluationBefore,
        evaluation: this.#evaluation,
        evaluations: this.#watch.progress,
        samples: this.#sampleRounds,
      },
    };
  }

  /** The evaluation after the step at which the run is; null: it was not evaluated there. */
  get evaluation(): Evaluation | null {
    return this.#evaluation;
  }

  /** The best evaluation after a step, and that step; null before the first one. */
  get best(): EvaluationWatch['best'] {
    return this.#watch.best;
  }

  /** True if evaluations bring no further gain. */
  get isExhausted(): boolean {
    return this.#watch.isExhausted;
  }

  /** True if the prompts were answered with the state after this step. */
  isSampledAt(step: number): boolean {
    return this.#sampleRounds.some((round) => round.step === step);
  }

  addStep({ loss, accuracy, tokens, trainedTokens }: StepResult, epoch: number): void {
    this.#losses.push(loss);
    this.#accuracies.push(accuracy);
    this.#tokens += tokens;
    this.#trainedTokens += trainedTokens;
    this.#epoch = epoch;
    this.#evaluation = null;
  }

  /** Adds the evaluation before the first step, which is only reported. */
  addEvaluationBefore(evaluation: Evaluation): void {
    this.#evaluationBefore = evaluation;
  }

  addEvaluation(step: number, evaluation: Evaluation): void {
    this.#evaluation = evaluation;
    this.#watch.add(step, evaluation);
  }

  addSamples(round: SampleRound): void {
    this.#sampleRounds.push(round);
  }

  /** @param adapterStep whose state is published, with its evaluation */
  result(adapterStep: number, evaluation: Evaluation | null, steps: { done: number; total: number }): RunResult {
    return {
      steps: steps.done,
      tokens: this.#tokens,
      trained_tokens: this.#trainedTokens,
      seconds: this.#seconds,
      first_loss: this.#losses[0]!,
      last_loss: this.#losses.at(-1)!,
      losses: this.#losses,
      accuracies: this.#accuracies,
      evaluation_before: this.#evaluationBefore,
      evaluation_after: evaluation,
      samples: this.#sampleRounds.toSorted((one, other) => one.step - other.step),
      adapter_step: adapterStep,
      stopped_early: steps.done < steps.total,
    };
  }

  /** Seconds of the run, with those of the processes that it was resumed from. */
  get #seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#startedMs) / 1000;
  }
}

/** Recent steps that the time left is estimated from. */
const RECENT_STEPS = 20;

/** The times of the steps of one process, and of the gaps between them: checkpoints, evaluations, samples. */
export class StepTimes {
  #startMs = 0;
  #lastEndMs: number | null = null;
  readonly #recentSeconds: number[] = [];
  readonly #gaps = { count: 0, seconds: 0 };

  /** True if a step has ended. */
  get hasSteps(): boolean {
    return this.#recentSeconds.length > 0;
  }

  /** Marks the beginning of a step. */
  start(): void {
    this.#startMs = performance.now();
    if (this.#lastEndMs === null) return;
    this.#gaps.count++;
    this.#gaps.seconds += (this.#startMs - this.#lastEndMs) / 1000;
  }

  /** Marks the end of a step. @returns its seconds */
  end(): number {
    this.#lastEndMs = performance.now();
    const seconds = (this.#lastEndMs - this.#startMs) / 1000;
    this.#recentSeconds.push(seconds);
    if (this.#recentSeconds.length > RECENT_STEPS) this.#recentSeconds.shift();
    return seconds;
  }

  /** The mean of the recent steps, with that of all gaps so far: a gap is rare, and the mean of a few would jump. */
  get secondsPerStep(): number {
    const { count, seconds: ofGaps } = this.#gaps;
    const ofSteps = this.#recentSeconds.reduce((sum, seconds) => sum + seconds, 0) / this.#recentSeconds.length;
    return count === 0 ? ofSteps : ofSteps + ofGaps / count;
  }
}
