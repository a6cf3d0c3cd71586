import { type Checkpoint, type CheckpointAdapter, readCheckpoint } from '@lorasmith/checkpoints';
import { type JobSpec, type NewJobEvent, ProductError, type TrainingOutcome } from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import { type BaseDigests, baseDifference, digestBase, readModelFolder } from '@lorasmith/model-folder';
import type { LoadOptions } from '@lorasmith/models';
import { tensorOf } from '@lorasmith/tensor';
import { BaseModelCache } from './base-model-cache.js';
import { throwIfStopped } from './breathe.js';
import { resetPeakMemory } from './peak-memory.js';
import { thinnedLosses } from './thinned-losses.js';
import { trainedOutcome } from './trained-outcome.js';

export interface PublishCheckpointOptions {
  /** Of the job that trained. */
  spec: JobSpec;
  /** Folder of the base model. */
  modelFolder: string;
  /** The checkpoints of the job that trained. */
  checkpointFolder: string;
  step: number;
  /** The PEFT files are written here; it must exist. */
  outputFolder: string;
  signal: AbortSignal;
  /** report-ready, checkpoint-loaded. */
  onEvent(event: NewJobEvent): void;
  /** Called as the base model's weights arrive. */
  onLoading?: NonNullable<LoadOptions['onProgress']>;
  /** Keeps the base model for the next job; default: the model is freed at the end. */
  cache?: BaseModelCache;
}

/**
 * Makes an adapter of a checkpoint as the end of a training makes one of its last state, with the same checks. Nothing is
 * trained, and the data is not needed.
 *
 * @throws ProductError checkpoint_not_found; invalid_job when the base has other weights or another architecture by now;
 * model_*; cancelled; and as trainedOutcome
 */
export async function publishCheckpoint(options: PublishCheckpointOptions): Promise<TrainingOutcome> {
  resetPeakMemory();
  const { spec, step, outputFolder, signal, onEvent } = options;
  const checkpoint = await readCheckpoint(options.checkpointFolder, step);
  const made = checkpoint.progress.adapter;
  const model = await readModelFolder(options.modelFolder);
  checkBase(made, await digestBase(model, { signal }), step);
  onEvent({ type: 'report-ready', data: { report: made.report } });

  const cache = options.cache ?? new BaseModelCache();
  try {
    const precision = made.report.precision.chosen ?? 'float32';
    const base = await cache.get(model, precision, made.base_model.weights_sha256, {
      onProgress: (progress) => {
        throwIfStopped(signal);
        options.onLoading?.(progress);
      },
    });
    const { dropout } = spec.lora;
    const adapter = new LoraAdapter(base.groups, { targets: made.targets, dropout, seed: spec.training.seed });
    try {
      adapter.setParameters(tensorOf(checkpoint.parameters, [checkpoint.parameters.length]));
      onEvent({ type: 'checkpoint-loaded', data: { step } });
      const { base_model, dataset, report } = made;
      const trained = { base_model, dataset, report, result: resultAt(checkpoint) };
      return await trainedOutcome({ base, model, adapter, outputFolder, signal, trained });
    } finally {
      adapter.dispose();
    }
  } finally {
    if (options.cache === undefined) cache.dispose();
  }
}

/** What the training had come to by then. */
function resultAt({ step, losses, progress }: Checkpoint): Omit<TrainingOutcome['result'], 'peak_memory_bytes'> {
  return {
    steps: step,
    tokens: progress.tokens,
    trained_tokens: progress.trainedTokens,
    seconds: progress.seconds,
    first_loss: losses[0]!,
    last_loss: losses.at(-1)!,
    losses: thinnedLosses(losses),
    evaluation_before: progress.evaluationBefore,
    evaluation_after: progress.evaluation,
    adapter_step: step,
    stopped_early: false,
  };
}

function checkBase({ base_model: base }: CheckpointAdapter, now: BaseDigests, step: number): void {
  const param = 'base_model';
  const difference = baseDifference(base, now);
  if (difference === null) return;
  if (difference === 'weights') {
    const message = `The base model ${base.name} has other weights than those that the checkpoint of step ${step} was trained on. Put them back, or train again.`;
    throw new ProductError('invalid_job', message, { param });
  }
  const message = `The config.json of the base model ${base.name} says something else than when the checkpoint of step ${step} was trained. Put it back, or train again.`;
  throw new ProductError('invalid_job', message, { param });
}
