import {
  type Checkpoint,
  type CheckpointAdapter,
  readCheckpoint,
  type SaveOptions,
  saveCheckpoint,
} from '@lorasmith/checkpoints';
import { type Evaluation, type NewJobEvent, ProductError, type TrainingSettings } from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/lora';
import { type Plan, RowOrder } from '@lorasmith/planning';
import { tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { AdamW } from './adamw.js';
import type { Batch, BatchSource } from './batches.js';
import { evaluate } from './evaluate.js';
import { EvaluationWatch } from './evaluation-watch.js';
import { learningRateAt } from './learning-rate.js';
import { optimizerStep, type StepResult } from './optimizer-step.js';
import { thinnedLosses } from './thinned-losses.js';

export interface TrainingRunOptions {
  /** The same for two attempts at the same training, and only then. */
  id: string;
  /** What that follows from. */
  parts: Record<string, string>;
  settings: TrainingSettings;
  steps: Plan['steps'];
  adapter: LoraAdapter;
  optimizer: AdamW;
  /** Whether layers are computed again in the backward pass, for less memory. */
  recompute: boolean;
  training: BatchSource;
  validation: BatchSource | null;
  /** Which state becomes the adapter. */
  publish: 'last' | 'best';
  checkpointFolder: string;
  /** The newest checkpoint of this run; null: it begins. */
  resumeFrom: Checkpoint | null;
  /** Written into each checkpoint. */
  checkpointAdapter: CheckpointAdapter;
  signal: AbortSignal;
  /** Aborted, the run stops between two steps. */
  pause: AbortSignal | undefined;
  onEvent(event: NewJobEvent): void;
}

export interface TrainingResult {
  steps: number;
  tokens: number;
  trained_tokens: number;
  seconds: number;
  first_loss: number;
  last_loss: number;
  losses: number[];
  evaluation_before: Evaluation | null;
  evaluation_after: Evaluation | null;
  adapter_step: number;
  stopped_early: boolean;
}

/** Steps that the time left is judged by. */
const RECENT_STEPS = 20;
/** A cancel takes effect at once: what takes a disk longer than about a second to write is not written for it. */
const MAX_BYTES_ON_CANCEL = 128 * 1024 * 1024;

/** The loop: steps, evaluations, checkpoints, from wherever an earlier attempt came to. */
export class TrainingRun {
  readonly #options: TrainingRunOptions;
  readonly #rows: RowOrder;
  readonly #watch: EvaluationWatch;
  #losses: number[] = [];
  #tokens = 0;
  #trainedTokens = 0;
  #epoch = 0;
  #secondsBefore = 0;
  #startedMs = performance.now();
  #recentStepSeconds: number[] = [];
  #evaluationBefore: Evaluation | null = null;
  /** After the step at which the run is. */
  #evaluation: Evaluation | null = null;
  /** Whether all that the run has come to is in its newest checkpoint. */
  #isSaved = false;

  constructor(options: TrainingRunOptions) {
    this.#options = options;
    const { batch_size: batchSize, gradient_accumulation_steps: accumulation, seed } = options.settings;
    this.#rows = new RowOrder(options.training.count, { batchSize, accumulation, seed });
    this.#watch = new EvaluationWatch(options.settings.early_stopping);
  }

  /**
   * Trains to the last step, or until evaluations bring nothing more; the adapter then has the state to publish.
   * @throws ProductError cancelled (after a checkpoint when the reason is `shutdown`, or `cancel` and it is not large, or
   * when it was to pause), non_finite_loss, storage_full, checkpoint_not_found when the best one is gone
   */
  async toTheEnd(): Promise<TrainingResult> {
    if (this.#options.resumeFrom === null) this.#evaluationBefore = await this.#evaluate();
    else this.#resume(this.#options.resumeFrom);
    try {
      for (;;) {
        if (this.#isPauseDue) await this.#stopHere();
        if (this.#isEvaluationDue) await this.#evaluateStep();
        if (this.#isCheckpointDue) await this.#save();
        if (this.#isOver) break;
        await this.#step();
      }
    } catch (error) {
      if (this.#isToSaveOnStop) await this.#save();
      throw error;
    }
    return await this.#chosenResult();
  }

  get #isOver(): boolean {
    return this.#options.optimizer.step >= this.#options.steps.total || this.#watch.isExhausted;
  }

  get #isEvaluationDue(): boolean {
    const { validation, settings, optimizer, steps } = this.#options;
    if (validation === null || this.#evaluation !== null || optimizer.step === 0) return false;
    return isDue(settings.eval_every_steps, optimizer.step) || optimizer.step === steps.total;
  }

  /** Not before a step of its own: every trainer brings the training further, however soon it is told to end. */
  get #isPauseDue(): boolean {
    return this.#options.pause?.aborted === true && this.#recentStepSeconds.length > 0;
  }

  get #isCheckpointDue(): boolean {
    const { settings, optimizer } = this.#options;
    if (this.#isSaved || optimizer.step === 0) return false;
    const isBest = this.#watch.best?.step === optimizer.step;
    return isBest || this.#isOver || isDue(settings.checkpoint_every_steps, optimizer.step);
  }

  get #isToSaveOnStop(): boolean {
    const { signal, optimizer, adapter } = this.#options;
    if (this.#isSaved || optimizer.step === 0) return false;
    // Parameters and two moments, float32.
    return (
      signal.reason === 'shutdown' || (signal.reason === 'cancel' && 12 * adapter.parameterCount <= MAX_BYTES_ON_CANCEL)
    );
  }

  async #step(): Promise<void> {
    const { settings, steps, adapter, optimizer, recompute, training, signal, onEvent } = this.#options;
    const startedMs = performance.now();
    const { epoch, microBatches } = this.#rows.rowsOf(optimizer.step);
    const learningRate = learningRateAt(optimizer.step, settings, steps);
    const batches = inTurn(microBatches, training);
    const stepSettings = { ...settings, learningRate, recompute };
    const result = await optimizerStep(adapter, optimizer, batches, stepSettings, signal);
    const seconds = (performance.now() - startedMs) / 1000;
    this.#count(result, epoch, seconds);
    onEvent({
      type: 'step-finished',
      data: {
        step: optimizer.step,
        total_steps: steps.total,
        epoch,
        loss: result.loss,
        learning_rate: learningRate,
        grad_norm: result.gradNorm,
        tokens_per_second: result.tokens / seconds,
        seconds_left: this.#secondsPerStep() * (steps.total - optimizer.step),
      },
    });
  }

  #count(result: StepResult, epoch: number, seconds: number): void {
    this.#losses.push(result.loss);
    this.#tokens += result.tokens;
    this.#trainedTokens += result.trainedTokens;
    this.#epoch = epoch;
    this.#evaluation = null;
    this.#isSaved = false;
    this.#recentStepSeconds.push(seconds);
    if (this.#recentStepSeconds.length > RECENT_STEPS) this.#recentStepSeconds.shift();
  }

  #secondsPerStep(): number {
    return this.#recentStepSeconds.reduce((sum, seconds) => sum + seconds, 0) / this.#recentStepSeconds.length;
  }

  async #evaluate(): Promise<Evaluation | null> {
    const { validation, settings, signal, adapter, optimizer, onEvent } = this.#options;
    if (validation === null) return null;
    const evaluation = await evaluate(validation, [{ adapter }], settings.batch_size, signal);
    onEvent({ type: 'evaluation-finished', data: { step: optimizer.step, ...evaluation } });
    return evaluation;
  }

  async #evaluateStep(): Promise<void> {
    const { optimizer, steps, onEvent } = this.#options;
    this.#evaluation = await this.#evaluate();
    if (this.#evaluation === null) return;
    this.#watch.add(optimizer.step, this.#evaluation);
    this.#isSaved = false;
    const { isExhausted, best } = this.#watch;
    if (!isExhausted || best === null || optimizer.step >= steps.total) return;
    const data = { step: optimizer.step, best_step: best.step, best_loss: best.evaluation.loss };
    onEvent({ type: 'training-stopped-early', data });
  }

  async #stopHere(): Promise<never> {
    if (!this.#isSaved) await this.#save();
    throw new ProductError('cancelled', 'Training was stopped after a step, for another trainer to go on.');
  }

  get #seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#startedMs) / 1000;
  }

  async #save(): Promise<void> {
    const { id, parts, adapter, optimizer, checkpointFolder, checkpointAdapter, onEvent } = this.#options;
    const checkpoint: Checkpoint = {
      step: optimizer.step,
      parameters: toFloat32Array(adapter.parameters),
      firstMoment: toFloat32Array(optimizer.moments.first),
      secondMoment: toFloat32Array(optimizer.moments.second),
      losses: Float32Array.from(this.#losses),
      progress: {
        run: id,
        parts,
        tokens: this.#tokens,
        trainedTokens: this.#trainedTokens,
        seconds: this.#seconds,
        epoch: this.#epoch,
        trainLoss: this.#losses.at(-1)!,
        evaluationBefore: this.#evaluationBefore,
        evaluation: this.#evaluation,
        evaluations: this.#watch.progress,
        adapter: checkpointAdapter,
      },
    };
    // After the last one, the best and the last are enough.
    const options: SaveOptions = this.#isOver ? { before: 0 } : {};
    await saveCheckpoint(checkpointFolder, checkpoint, options);
    this.#isSaved = true;
    onEvent({ type: 'checkpoint-saved', data: { step: optimizer.step } });
  }

  #resume(checkpoint: Checkpoint): void {
    const { adapter, optimizer, onEvent } = this.#options;
    const { step, progress } = checkpoint;
    adapter.setParameters(vectorOf(checkpoint.parameters));
    optimizer.restore(step, { first: vectorOf(checkpoint.firstMoment), second: vectorOf(checkpoint.secondMoment) });
    this.#losses = [...checkpoint.losses];
    this.#tokens = progress.tokens;
    this.#trainedTokens = progress.trainedTokens;
    this.#epoch = progress.epoch;
    this.#secondsBefore = progress.seconds;
    this.#evaluationBefore = progress.evaluationBefore;
    this.#evaluation = progress.evaluation;
    this.#watch.restore(progress.evaluations);
    this.#isSaved = true;
    onEvent({ type: 'checkpoint-loaded', data: { step } });
  }

  /** Puts the state to publish into the adapter. */
  async #chosenResult(): Promise<TrainingResult> {
    const { publish, optimizer, adapter, checkpointFolder } = this.#options;
    const { best } = this.#watch;
    if (publish !== 'best' || best === null || best.step === optimizer.step) {
      return this.#result(optimizer.step, this.#evaluation);
    }
    const { parameters } = await readCheckpoint(checkpointFolder, best.step);
    adapter.setParameters(vectorOf(parameters));
    return this.#result(best.step, best.evaluation);
  }

  #result(adapterStep: number, evaluationAfter: Evaluation | null): TrainingResult {
    const { optimizer, steps } = this.#options;
    return {
      steps: optimizer.step,
      tokens: this.#tokens,
      trained_tokens: this.#trainedTokens,
      seconds: this.#seconds,
      first_loss: this.#losses[0]!,
      last_loss: this.#losses.at(-1)!,
      losses: thinnedLosses(this.#losses),
      evaluation_before: this.#evaluationBefore,
      evaluation_after: evaluationAfter,
      adapter_step: adapterStep,
      stopped_early: optimizer.step < steps.total,
    };
  }
}

function vectorOf(values: Float32Array) {
  return tensorOf(values, [values.length]);
}

/** Micro-batches are made one at a time: a step may have thousands. */
function* inTurn(microBatches: readonly Int32Array[], source: BatchSource): Iterable<Batch> {
  const span = Math.max(...microBatches.map((indices) => source.span(indices)));
  for (const indices of microBatches) yield source.batch(indices, span);
}

function isDue(everySteps: number | null, step: number): boolean {
  return everySteps !== null && step % everySteps === 0;
}
