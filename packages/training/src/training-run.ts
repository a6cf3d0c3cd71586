import {
  type CheckpointAdapter,
  type CheckpointState,
  readCheckpoint,
  type SaveOptions,
  saveCheckpoint,
} from '@lorasmith/artifacts';
import type { Evaluation, NewJobEvent, TrainingSettings } from '@lorasmith/contracts';
import type { ActingAdapter, LoraAdapter } from '@lorasmith/models';
import { learningRateAt, type Plan, type RowOrder } from '@lorasmith/planning';
import { bytesOfMoment, momentOfBytes, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { AdamW } from './adamw.js';
import type { BatchSource } from './batches.js';
import { evaluate, type HeldOut, requireFinite } from './evaluation.js';
import type { Rollouts } from './objectives/group-relative/rollouts.js';
import { optimizerStep } from './optimizer-step.js';
import { RunRecord, type RunResult, StepTimes } from './run-record.js';
import type { Sampler } from './sampler.js';
import type { Participant } from './shared-pass/pass-scheduler.js';
import type { RunIdentity } from './start-run.js';

export interface TrainingRunOptions {
  identity: RunIdentity;
  settings: TrainingSettings;
  steps: Plan['steps'];
  /** See Pass in models. While other jobs train at the same time, all layers or none. */
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
  /** The folder that checkpoints are written to, and what each says of its adapter. */
  checkpoints: { folder: string; adapter: CheckpointAdapter };
  /** step-finished, evaluation-finished, samples-generated, training-stopped-early, checkpoint-saved, checkpoint-loaded. */
  onEvent(event: NewJobEvent): void;
}

/** The state of one training, and what can be done with it. What is done next is the decision of a loop: see runToEnd. */
export class TrainingRun {
  readonly #options: TrainingRunOptions;
  readonly #record: RunRecord;
  readonly #times = new StepTimes();
  #isSaved = false;

  constructor(options: TrainingRunOptions) {
    this.#options = options;
    this.#record = new RunRecord(options.settings.early_stopping);
  }

  get stepsDone(): number {
    return this.#options.optimizer.step;
  }

  get totalSteps(): number {
    return this.#options.steps.total;
  }

  /** True if this object has done a step: what it resumed from is not counted. */
  get hasStepped(): boolean {
    return this.#times.hasSteps;
  }

  /** True if all steps are done, or evaluations bring no further gain. */
  get isOver(): boolean {
    return this.stepsDone >= this.totalSteps || this.#record.isExhausted;
  }

  /** The evaluation after the step at which the run is; null: it was not evaluated there. */
  get evaluation(): Evaluation | null {
    return this.#record.evaluation;
  }

  /** True if the run was evaluated after the step at which it is. */
  get isEvaluated(): boolean {
    return this.evaluation !== null;
  }

  /** True if the run has answered its prompts after the step at which it is, or has none. */
  get isSampled(): boolean {
    return this.#options.sampler === null || this.#record.isSampledAt(this.stepsDone);
  }

  /** True if the best evaluation is that of the step at which the run is. */
  get isBest(): boolean {
    return this.#record.best?.step === this.stepsDone;
  }

  /** True if everything the run has reached is in its newest checkpoint. */
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
    const { step } = checkpoint;
    adapter.setParameters(vectorOf(checkpoint.parameters));
    optimizer.restore(step, { first: momentOf(checkpoint.firstMoment), second: momentOf(checkpoint.secondMoment) });
    this.#record.restore(checkpoint);
    rollouts?.resume(checkpoint.rollout);
    this.#isSaved = true;
    onEvent({ type: 'checkpoint-loaded', data: { step } });
  }

  /** @throws ProductError non_finite_loss; cancelled before a micro-batch: then nothing of the step is done */
  async step(): Promise<void> {
    const { settings, steps, adapter, optimizer, recomputedLayers, rows, data, reference, passes, onEvent } =
      this.#options;
    this.#times.start();
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
    const seconds = this.#times.end();
    this.#record.addStep(result, epoch);
    this.#isSaved = false;
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
        seconds_left: this.#times.secondsPerStep * (steps.total - optimizer.step),
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
      this.#record.addEvaluationBefore(evaluation);
      return;
    }
    this.#record.addEvaluation(step, evaluation);
    this.#isSaved = false;
    const { isExhausted, best } = this.#record;
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
    const { step, moments } = optimizer;
    const tensors = {
      parameters: toFloat32Array(adapter.parameters),
      firstMoment: valuesOf(moments.first),
      secondMoment: valuesOf(moments.second),
    };
    const rollout = (await rollouts?.known(step)) ?? null;
    const { losses, accuracies, progress } = this.#record.state;
    const run = { run: identity.id, parts: identity.parts };
    const checkpoint: CheckpointState = {
      ...{ step, ...tensors, losses, accuracies, rollout },
      progress: { ...run, ...progress, adapter: checkpoints.adapter },
    };
    await passes.concurrently(() => saveCheckpoint(checkpoints.folder, checkpoint, options));
    this.#isSaved = true;
    onEvent({ type: 'checkpoint-saved', data: { step } });
  }

  /**
   * Puts the state to publish into the adapter, once the run is over, and has it answer the prompts unless it has.
   * @throws ProductError checkpoint_not_found when the best state is no longer stored
   */
  async finish(publish: 'last' | 'best'): Promise<RunResult> {
    const { adapter, passes, checkpoints } = this.#options;
    const steps = { done: this.stepsDone, total: this.totalSteps };
    const { best, evaluation } = this.#record;
    if (publish !== 'best' || best === null || this.isBest) return this.#record.result(steps.done, evaluation, steps);
    const { parameters } = await passes.concurrently(() => readCheckpoint(checkpoints.folder, best.step));
    adapter.setParameters(vectorOf(parameters));
    await this.#sampleAt(best.step);
    return this.#record.result(best.step, best.evaluation, steps);
  }

  /** @param step whose state the adapter has */
  async #sampleAt(step: number): Promise<void> {
    const { sampler, onEvent } = this.#options;
    if (sampler === null || this.#record.isSampledAt(step)) return;
    const round = { step, ...(await sampler.answers()) };
    this.#record.addSamples(round);
    this.#isSaved = false;
    onEvent({ type: 'samples-generated', data: round });
  }
}

function vectorOf(values: Float32Array): Tensor {
  return tensorOf(values, [values.length]);
}

/** The values of a moment as a checkpoint has them: bytes where they are in 8 bits. */
function valuesOf(moment: Tensor): Float32Array | Uint8Array {
  return moment.dtype === 'uint8' ? bytesOfMoment(moment) : toFloat32Array(moment);
}

function momentOf(values: Float32Array | Uint8Array): Tensor {
  return values instanceof Uint8Array ? momentOfBytes(values) : vectorOf(values);
}
