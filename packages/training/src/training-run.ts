import type { Evaluation, NewJobEvent, TrainingSettings } from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/lora';
import { type Plan, RowOrder } from '@lorasmith/planning';
import { tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { AdamW } from './adamw.js';
import type { Batch, BatchSource } from './batches.js';
import { latestCheckpoint, saveCheckpoint } from './checkpoint.js';
import { evaluate } from './evaluate.js';
import { learningRateAt } from './learning-rate.js';
import { optimizerStep, type StepResult } from './optimizer-step.js';

export interface TrainingRunOptions {
  /** The same for two attempts at the same training, and only then. */
  id: string;
  settings: TrainingSettings;
  steps: Plan['steps'];
  adapter: LoraAdapter;
  optimizer: AdamW;
  training: BatchSource;
  validation: BatchSource | null;
  checkpointFolder: string;
  signal: AbortSignal;
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
}

/** Losses the manifest keeps. */
const KEPT_LOSSES = 1000;
/** Steps that the time left is judged by. */
const RECENT_STEPS = 20;

/** The loop: steps, evaluations, checkpoints, from wherever an earlier attempt came to. */
export class TrainingRun {
  readonly #options: TrainingRunOptions;
  readonly #rows: RowOrder;
  #losses: number[] = [];
  #tokens = 0;
  #trainedTokens = 0;
  #secondsBefore = 0;
  #startedMs = performance.now();
  #recentStepSeconds: number[] = [];
  #evaluationBefore: Evaluation | null = null;
  #savedStep = 0;

  constructor(options: TrainingRunOptions) {
    this.#options = options;
    const { batch_size: batchSize, gradient_accumulation_steps: accumulation, seed } = options.settings;
    this.#rows = new RowOrder(options.training.count, { batchSize, accumulation, seed });
  }

  /** @throws ProductError cancelled (after a checkpoint when the reason is `shutdown`), non_finite_loss */
  async toTheEnd(): Promise<TrainingResult> {
    const { settings, steps, optimizer } = this.#options;
    await this.#resume();
    try {
      if (optimizer.step === 0) this.#evaluationBefore = await this.#evaluate();
      let last: Evaluation | null = null;
      while (optimizer.step < steps.total) {
        await this.#step();
        last = isDue(settings.eval_every_steps, optimizer.step) ? await this.#evaluate() : null;
        const saveNow = isDue(settings.checkpoint_every_steps, optimizer.step) && optimizer.step < steps.total;
        if (saveNow) await this.#save();
      }
      return this.#result(last ?? (await this.#evaluate()));
    } catch (error) {
      if (this.#options.signal.reason === 'shutdown' && optimizer.step > this.#savedStep) await this.#save();
      throw error;
    }
  }

  async #step(): Promise<void> {
    const { settings, steps, adapter, optimizer, training, signal, onEvent } = this.#options;
    const startedMs = performance.now();
    const { epoch, microBatches } = this.#rows.rowsOf(optimizer.step);
    const learningRate = learningRateAt(optimizer.step, settings, steps);
    const batches = inTurn(microBatches, training);
    const result = await optimizerStep(adapter, optimizer, batches, { ...settings, learningRate }, signal);
    const seconds = (performance.now() - startedMs) / 1000;
    this.#count(result, seconds);
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

  #count(result: StepResult, seconds: number): void {
    this.#losses.push(result.loss);
    this.#tokens += result.tokens;
    this.#trainedTokens += result.trainedTokens;
    this.#recentStepSeconds.push(seconds);
    if (this.#recentStepSeconds.length > RECENT_STEPS) this.#recentStepSeconds.shift();
  }

  #secondsPerStep(): number {
    return this.#recentStepSeconds.reduce((sum, seconds) => sum + seconds, 0) / this.#recentStepSeconds.length;
  }

  async #evaluate(): Promise<Evaluation | null> {
    const { validation, settings, signal, optimizer, onEvent } = this.#options;
    if (validation === null) return null;
    const evaluation = await evaluate(validation, settings.batch_size, signal);
    onEvent({ type: 'evaluation-finished', data: { step: optimizer.step, ...evaluation } });
    return evaluation;
  }

  get #seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#startedMs) / 1000;
  }

  async #save(): Promise<void> {
    const { id, adapter, optimizer, checkpointFolder, onEvent } = this.#options;
    await saveCheckpoint(checkpointFolder, {
      step: optimizer.step,
      parameters: toFloat32Array(adapter.parameters),
      firstMoment: toFloat32Array(optimizer.moments.first),
      secondMoment: toFloat32Array(optimizer.moments.second),
      losses: Float32Array.from(this.#losses),
      progress: {
        run: id,
        tokens: this.#tokens,
        trainedTokens: this.#trainedTokens,
        seconds: this.#seconds,
        evaluationBefore: this.#evaluationBefore,
      },
    });
    this.#savedStep = optimizer.step;
    onEvent({ type: 'checkpoint-saved', data: { step: optimizer.step } });
  }

  async #resume(): Promise<void> {
    const { id, adapter, optimizer, checkpointFolder } = this.#options;
    const checkpoint = await latestCheckpoint(checkpointFolder, id);
    if (checkpoint === null) return;
    const vector = (values: Float32Array) => tensorOf(values, [values.length]);
    adapter.setParameters(vector(checkpoint.parameters));
    optimizer.restore(checkpoint.step, {
      first: vector(checkpoint.firstMoment),
      second: vector(checkpoint.secondMoment),
    });
    this.#losses = [...checkpoint.losses];
    this.#tokens = checkpoint.progress.tokens;
    this.#trainedTokens = checkpoint.progress.trainedTokens;
    this.#secondsBefore = checkpoint.progress.seconds;
    this.#evaluationBefore = checkpoint.progress.evaluationBefore;
    this.#savedStep = checkpoint.step;
  }

  #result(evaluationAfter: Evaluation | null): TrainingResult {
    return {
      steps: this.#options.optimizer.step,
      tokens: this.#tokens,
      trained_tokens: this.#trainedTokens,
      seconds: this.#seconds,
      first_loss: this.#losses[0]!,
      last_loss: this.#losses.at(-1)!,
      losses: thinned(this.#losses),
      evaluation_before: this.#evaluationBefore,
      evaluation_after: evaluationAfter,
    };
  }
}

/** Micro-batches are made one at a time: a step may have thousands. */
function* inTurn(microBatches: readonly Int32Array[], source: BatchSource): Iterable<Batch> {
  const span = Math.max(...microBatches.map((indices) => source.span(indices)));
  for (const indices of microBatches) yield source.batch(indices, span);
}

function isDue(everySteps: number | null, step: number): boolean {
  return everySteps !== null && step % everySteps === 0;
}

/** At most {@link KEPT_LOSSES} values at even distances, the first and the last among them. */
function thinned(losses: readonly number[]): number[] {
  if (losses.length <= KEPT_LOSSES) return [...losses];
  const distance = (losses.length - 1) / (KEPT_LOSSES - 1);
  return Array.from({ length: KEPT_LOSSES }, (_, i) => losses[Math.round(i * distance)]!);
}
