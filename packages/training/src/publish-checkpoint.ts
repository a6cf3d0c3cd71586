import { type CheckpointState, readCheckpoint } from '@lorasmith/artifacts';
import { type JobSpec, type NewJobEvent, ProductError, type TrainingOutcome } from '@lorasmith/contracts';
import {
  asTrained,
  baseMismatch,
  digestBase,
  ModelTexts,
  readModelFolder,
  WeightDigests,
} from '@lorasmith/model-folder';
import { type LoadOptions, LoraAdapter } from '@lorasmith/models';
import { tensorOf } from '@lorasmith/tensor';
import { type BaseModelCache, stoppableLoading } from './base-model-cache.js';
import { engineError } from './engine-here.js';
import type { RunResult } from './run-record.js';
import type { Share } from './shared-pass/fair-shares.js';
import { type Participant, PassScheduler } from './shared-pass/pass-scheduler.js';
import { PeakMemory, trainedOutcome } from './trained-outcome.js';

export interface PublishCheckpointOptions {
  /** The specification of the job that trained. */
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
  /** Loads the base model, and keeps it for the next job. */
  cache: BaseModelCache;
  /** Remembers the digests of base models. @defaultValue one that remembers nothing */
  digests?: WeightDigests;
  /** Keeps the tokenizer for the next job. @defaultValue it is loaded for this job */
  texts?: ModelTexts;
  /** See TrainOptions. */
  scheduler?: PassScheduler;
  /** See TrainOptions. */
  share?: Share;
}

/**
 * Makes an adapter of a checkpoint as a completed training makes one of its last state, with the same checks. It trains
 * nothing and does not need the data.
 *
 * @throws JobDeferred when others use another base model; ProductError checkpoint_not_found; invalid_job when the weights or the architecture of the base have changed;
 * model_*; cancelled; and as trainedOutcome
 */
export async function publishCheckpoint(options: PublishCheckpointOptions): Promise<TrainingOutcome> {
  const { share, signal, scheduler = new PassScheduler() } = options;
  const passes = scheduler.join({ share, signal });
  const peakMemory = PeakMemory.watch();
  try {
    return await passes.concurrently(() => publish(options, passes, peakMemory));
  } catch (error) {
    throw engineError(error);
  } finally {
    peakMemory.close();
    passes.leave();
  }
}

async function publish(
  options: PublishCheckpointOptions,
  passes: Participant,
  peakMemory: PeakMemory,
): Promise<TrainingOutcome> {
  const { spec, step, outputFolder, signal, onEvent } = options;
  const checkpoint = await readCheckpoint(options.checkpointFolder, step);
  const made = checkpoint.progress.adapter;
  const model = asTrained(await readModelFolder(options.modelFolder), made.base_model);
  const digests = options.digests ?? new WeightDigests(null);
  const now = await digestBase(model, digests, { signal });
  const mismatch = baseMismatch(`The checkpoint of step ${step}`, made.base_model, now);
  if (mismatch !== null) throw new ProductError('invalid_job', mismatch, { param: 'base_model' });
  onEvent({ type: 'report-ready', data: { report: made.report } });

  const precision = made.report.precision.chosen ?? 'float32';
  const leased = await options.cache.lease(model, precision, { ...stoppableLoading(options), digests });
  try {
    const { model: base } = leased;
    const { dropout } = spec.lora;
    const adapter = new LoraAdapter(base.groups, { targets: made.targets, dropout, seed: spec.training.seed });
    try {
      adapter.setParameters(tensorOf(checkpoint.parameters, [checkpoint.parameters.length]));
      onEvent({ type: 'checkpoint-loaded', data: { step } });
      const { base_model, dataset, validation_dataset, report } = made;
      const trained = { base_model, dataset, validation_dataset, report, result: resultAt(checkpoint) };
      const { texts = new ModelTexts() } = options;
      const written = {
        base,
        model,
        adapter,
        outputFolder,
        texts,
        inEngineCall: passes.inEngineCall,
        signal,
        peakMemory,
        trained,
      };
      return await trainedOutcome(written);
    } finally {
      adapter.dispose();
    }
  } finally {
    leased.release();
  }
}

/** The result of the training up to that step. */
function resultAt({ step, losses, accuracies, progress }: CheckpointState): RunResult {
  return {
    steps: step,
    tokens: progress.tokens,
    trained_tokens: progress.trainedTokens,
    seconds: progress.seconds,
    first_loss: losses[0]!,
    last_loss: losses.at(-1)!,
    losses,
    accuracies,
    evaluation_before: progress.evaluationBefore,
    evaluation_after: progress.evaluation,
    samples: progress.samples,
    adapter_step: step,
    stopped_early: false,
  };
}
