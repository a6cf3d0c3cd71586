import {
  type CheckpointAdapter,
  type CheckpointState,
  readCheckpoint,
  type SaveOptions,
  saveCheckpoint,
} from '@lorasmith/artifacts';
import {
  type Evaluation,
  type NewJobEvent,
  ProductError,
  type SampleRound,
  type TrainingSettings,
} from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/lora';
import type { ActingAdapter } from '@lorasmith/models';
import { learningRateAt, type Plan, type RowOrder } from '@lorasmith/planning';
import { bytesOfMoment, momentOfBytes, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { AdamW } from './adamw.js';
import type { BatchSource } from './batches.js';
import { evaluate, type HeldOut } from './evaluate.js';
import { EvaluationWatch } from './evaluation-watch.js';
import type { Rollouts } from './objectives/group-relative/rollouts.js';
import { optimizerStep, type StepResult } from './optimizer-step.js';
import type { RunIdentity } from './run-parts.js';
import type { Sampler } from './sampler.js';
import type { Participant } from './shared-pass/pass-scheduler.js';
import type { RunResult } from './trained-outcome.js';

export interface TrainingRunOptions {
  identity: RunIdentity;
  settings: TrainingSettings;
  steps: Plan['steps'];
  /** See Pass in models. While other jobs train beside it, all layers or none. */
  recomputedLayers: number;
  /** The adapter that is trained, and its optimizer. Both belong to this run alone. */
  adapter: LoraAdapter;
  optimizer: AdamW;
  /** The adapters of the reference of an objective that compares with one as it trains; none: the base alone. */
  reference: readonly ActingAdapter[];
  /** The order in which the examples to train on are read. */
  rows: RowOrder;
  /** `validation` is null without rows to evaluate on. */
  data: { training: BatchSource; validation: HeldOut | null };
  /** The passes of its micro-batches and evaluations. When its signal is aborted, steps and evaluations end with `cancelled`. */
  passes: Participant;
  /** Answers the prompts of the job; null where it has none. */
  sampler: Sampler | null;
  /** The answers that the run trains on; null for an objective that samples none. */
  rollouts: Pick<Rollouts, 'known' | 'resume'> | null;
  /** Where checkpoints are written, and what each says of its adapter. */
  checkpoints: { folder: string; adapter: CheckpointAdapter };
  /** step-finished, evaluation-finished, samples-generated, training-stopped-early, checkpoint-saved, checkpoint-loaded. */
  onEvent(event: NewJobEvent): void;
}

/** Steps that the time left is estimated from. */
const RECENT_STEPS = 20;

/** The state of one training, and what can be done with it. What is done next is the decision of a loop: see runToEnd. */
export class TrainingRun {
  readonly #options: TrainingRunOptions;
  readonly #watch: EvaluationWatch;
  #losses: number[] = [];
  #accuracies: number[] = [];
  #tokens = 0;
  #trainedTokens = 0;
  #epoch = 0;
  #secondsBefore = 0;
  #startedMs = performance.now();
  #recentStepSeconds: number[] = [];
  /** The number and time of the gaps between the steps of this object: checkpoints, evaluations, samples. */
  readonly #between = { count: 0, seconds: 0 };
  #lastStepEndMs: number | null = null;
  #evaluationBefore: Evaluation | null = null;
  /** The evaluation after the step at which the run is. */
  #evaluation: Evaluation | null = null;
  #sampleRounds: SampleRound[] = [];
  #isSaved = false;

  constructor(options: TrainingRunOptions) {
    this.#options = options;
    this.#watch = new EvaluationWatch(options.settings.early_stopping);
  }

  get stepsDone(): number {
    return this.#options.optimizer.step;
  }

  get totalSteps(): number {
    return this.#options.steps.total;
  }

  /** Whether this object has done a step: what it resumed from is not counted. */
  get hasStepped(): boolean {
    return this.#recentStepSeconds.length > 0;
  }

  /** Whether all steps are done, or evaluations bring no further gain. */
  get isOver(): boolean {
    return this.stepsDone >= this.totalSteps || this.#watch.isExhausted;
  }

  /** The evaluation after the step at which the run is; null: it was not evaluated there. */
  get evaluation(): Evaluation | null {
    return this.#evaluation;
  }

  /** Whether the run was evaluated after the step at which it is. */
  get isEvaluated(): boolean {
    return this.#evaluation !== null;
  }

  /** Whether the run has answered its prompts after the step at which it is, or has none. */
  get isSampled(): boolean {
    return this.#isSampledAt(this.stepsDone);
  }

  /** Whether the best evaluation is that of the step at which the run is. */
  get isBest(): boolean {
    return this.#watch.best?.step === this.stepsDone;
  }

  /** Whether everything the run has reached is in its newest checkpoint. */
  get isSaved(): boolean {
    return this.#isSaved;
  }

  get checkpointBytes(): number {
    const { adapter, optimizer } = this.#options;
    const { first, second } = optimizer.moments;
    return adapter.parameters.sizeBytes + first.sizeBytes + second.sizeBytes;
  }

  /** Continues from a checkpoint of the same run. Call it before anything else. */
  resume(checkpoint: CheckpointState): void {
    const { adapter, optimizer, rollouts, onEvent } = this.#options;
    const { step, progress } = checkpoint;
    adapter.setParameters(vectorOf(checkpoint.parameters));
    optimizer.restore(step, { first: momentOf(checkpoint.firstMoment), second: momentOf(checkpoint.secondMoment) });
    this.#losses = [...checkpoint.losses];
    this.#accuracies = [...checkpoint.accuracies];
    this.#tokens = progress.tokens;
    this.#trainedTokens = progress.trainedTokens;
    this.#epoch = progress.epoch;
    this.#secondsBefore = progress.seconds;
    this.#evaluationBefore = progress.evaluationBefore;
    this.#evaluation = progress.evaluation;
    this.#watch.restore(progress.evaluations);
    this.#sampleRounds = [...progress.samples];
    rollouts?.resume(checkpoint.rollout);
    this.#isSaved = true;
    onEvent({ type: 'checkpoint-loaded', data: { step } });
  }

  /** @throws ProductError non_finite_loss; cancelled before a micro-batch: then nothing of the step is done */
  async step(): Promise<void> {
    const { settings, steps, adapter, optimizer, recomputedLayers, rows, data, reference, passes, onEvent } =
      this.#options;
    const startedMs = performance.now();
    if (this.#lastStepEndMs !== null) {
      this.#between.count++;
      this.#between.seconds += (startedMs - this.#lastStepEndMs) / 1000;
    }
    const { epoch, microBatches } = rows.rowsOf(optimizer.step);
    const learningRate = learningRateAt(optimizer.step, settings, steps);
    const batches = data.training.batches(microBatches, {
      adapters: [{ adapter }],
      passes,
      step: optimizer.step,
      reference,
    });
    const stepSettings = { ...settings, learningRate, recomputedLayers };
    const result = await optimizerStep(adapter, optimizer, batches, stepSettings, passes);
    this.#lastStepEndMs = performance.now();
    const seconds = (this.#lastStepEndMs - startedMs) / 1000;
    this.#count(result, epoch, seconds);
    onEvent({
      type: 'step-finished',
      data: {
        step: optimizer.step,
        total_steps: steps.total,
        epoch,
        loss: result.loss,
        accuracy: result.accuracy,
        ...result.metrics,
        learning_rate: learningRate,
        grad_norm: result.gradNorm,
        tokens_per_second: result.tokens / seconds,
        seconds_left: this.#secondsPerStep() * (steps.total - optimizer.step),
      },
    });
  }

  /**
   * Evaluates the adapter as it is on the held-out rows; does nothing where there are none. Before the first step the result
   * is only reported; later ones decide which state is the best, and when to stop early.
   * @throws ProductError non_finite_loss; cancelled
   */
  async evaluate(): Promise<void> {
    const { data, steps, adapter, passes, onEvent } = this.#options;
    if (data.validation === null) return;
    const step = this.stepsDone;
    const evaluation = await evaluate(data.validation, [{ adapter }], passes);
    requireFinite(evaluation, step);
    onEvent({ type: 'evaluation-finished', data: { step, ...evaluation } });
    if (step === 0) {
      this.#evaluationBefore = evaluation;
      return;
    }
    this.#evaluation = evaluation;
    this.#watch.add(step, evaluation);
    this.#isSaved = false;
    const { isExhausted, best } = this.#watch;
    if (!isExhausted || best === null || step >= steps.total) return;
    onEvent({
      type: 'training-stopped-early',
      data: { step, best_step: best.step, best_loss: best.evaluation.loss },
    });
  }

  /** Answers the prompts of the job with the adapter as it is, unless it has. @throws ProductError cancelled */
  async sample(): Promise<void> {
    await this.#sampleAt(this.stepsDone);
  }

  /** Saves a checkpoint. @throws ProductError storage_full */
  async save(options: SaveOptions): Promise<void> {
    const { identity, adapter, optimizer, rollouts, passes, checkpoints, onEvent } = this.#options;
    const checkpoint: CheckpointState = {
      step: optimizer.step,
      parameters: toFloat32Array(adapter.parameters),
      firstMoment: valuesOf(optimizer.moments.first),
      secondMoment: valuesOf(optimizer.moments.second),
      losses: Float32Array.from(this.#losses),
      accuracies: Float32Array.from(this.#accuracies),
      rollout: (await rollouts?.known(optimizer.step)) ?? null,
      progress: {
        run: identity.id,
        parts: identity.parts,
        tokens: this.#tokens,
        trainedTokens: this.#trainedTokens,
        seconds: this.#seconds,
        epoch: this.#epoch,
        trainLoss: this.#losses.at(-1)!,
        evaluationBefore: this.#evaluationBefore,
        evaluation: this.#evaluation,
        evaluations: this.#watch.progress,
        samples: this.#sampleRounds,
        adapter: checkpoints.adapter,
      },
    };
    await passes.beside(() => saveCheckpoint(checkpoints.folder, checkpoint, options));
    this.#isSaved = true;
    onEvent({ type: 'checkpoint-saved', data: { step: optimizer.step } });
  }

  /**
   * Puts the state to publish into the adapter, once the run is over, and has it answer the prompts unless it has.
   * @throws ProductError checkpoint_not_found when the best state is no longer stored
   */
  async finish(publish: 'last' | 'best'): Promise<RunResult> {
    const { adapter, passes, checkpoints } = this.#options;
    const { best } = this.#watch;
    if (publish !== 'best' || best === null || this.isBest) return this.#result(this.stepsDone, this.#evaluation);
    const { parameters } = await passes.beside(() => readCheckpoint(checkpoints.folder, best.step));
    adapter.setParameters(vectorOf(parameters));
    await this.#sampleAt(best.step);
    return this.#result(best.step, best.evaluation);
  }

  /** @param step whose state the adapter has */
  async #sampleAt(step: number): Promise<void> {
    const { sampler, onEvent } = this.#options;
    if (sampler === null || this.#isSampledAt(step)) return;
    const round = { step, ...(await sampler.answers()) };
    this.#sampleRounds.push(round);
    this.#isSaved = false;
    onEvent({ type: 'samples-generated', data: round });
  }

  #isSampledAt(step: number): boolean {
    return this.#options.sampler === null || this.#sampleRounds.some((round) => round.step === step);
  }

  #count(result: StepResult, epoch: number, seconds: number): void {
    this.#losses.push(result.loss);
    this.#accuracies.push(result.accuracy);
    this.#tokens += result.tokens;
    this.#trainedTokens += result.trainedTokens;
    this.#epoch = epoch;
    this.#evaluation = null;
    this.#isSaved = false;
    this.#recentStepSeconds.push(seconds);
    if (this.#recentStepSeconds.length > RECENT_STEPS) this.#recentStepSeconds.shift();
  }

  /** The mean of the recent steps, with that of all gaps so far: what fills them comes seldom, and would make the mean of few jump. */
  #secondsPerStep(): number {
    const { count, seconds: between } = this.#between;
    const steps = this.#recentStepSeconds.reduce((sum, seconds) => sum + seconds, 0) / this.#recentStepSeconds.length;
    return count === 0 ? steps : steps + between / count;
  }

  get #seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#startedMs) / 1000;
  }

  #result(adapterStep: number, evaluationAfter: Evaluation | null): RunResult {
    return {
      steps: this.stepsDone,
      tokens: this.#tokens,
      trained_tokens: this.#trainedTokens,
      seconds: this.#seconds,
      first_loss: this.#losses[0]!,
      last_loss: this.#losses.at(-1)!,
      losses: this.#losses,
      accuracies: this.#accuracies,
      evaluation_before: this.#evaluationBefore,
      evaluation_after: evaluationAfter,
      samples: this.#sampleRounds.toSorted((one, other) => one.step - other.step),
      adapter_step: adapterStep,
      stopped_early: this.stepsDone < this.totalSteps,
    };
  }
}

/** @throws ProductError non_finite_loss */
function requireFinite({ loss }: Evaluation, step: number): void {
  if (Number.isFinite(loss)) return;
  const when = step === 0 ? 'before training' : `after step ${step}`;
  throw new ProductError(
    'non_finite_loss',
    `The loss of the evaluation ${when} is not a finite number (${loss}). Lower learning_rate, or check the rows to evaluate on. Nothing was published.`,
  );
}

function vectorOf(values: Float32Array) {
  return tensorOf(values, [values.length]);
}

/** A moment as a checkpoint has it. */
function valuesOf(moment: Tensor): Float32Array | Uint8Array {
  return moment.dtype === 'uint8' ? bytesOfMoment(moment) : toFloat32Array(moment);
}

function momentOf(values: Float32Array | Uint8Array): Tensor {
  return values instanceof Uint8Array ? momentOfBytes(values) : vectorOf(values);
}
