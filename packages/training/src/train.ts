import { latestCheckpoint, removeHalfWritten } from '@lorasmith/checkpoints';
import type { Dataset, JobSpec, MachineProfile, NewJobEvent, Report, TrainingOutcome } from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import { digestWeights, type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import type { LoadOptions } from '@lorasmith/models';
import { type ExampleStore, type Plan, planJob } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';
import { BaseModelCache } from './base-model-cache.js';
import { batchSource } from './batches.js';
import { throwIfStopped } from './breathe.js';
import { readInitialAdapter, readInitialManifest } from './initial-adapter.js';
import { resetPeakMemory } from './peak-memory.js';
import { choosePrecision, precisionOfCheckpoint } from './precision.js';
import { restartWarning, runIdentity } from './run-parts.js';
import { trainedOutcome } from './trained-outcome.js';
import { TrainingRun } from './training-run.js';

export interface TrainOptions {
  spec: JobSpec;
  /** Folder of the base model. */
  modelFolder: string;
  dataset: Dataset;
  /** The dataset's rows, JSONL. */
  rowsFile: string;
  /** Where the rows are kept as tokens. */
  examples: ExampleStore;
  /** The newest checkpoint of this run in it is gone on from; new ones are written there. */
  checkpointFolder: string;
  /** The PEFT files are written here; it must exist. */
  outputFolder: string;
  /** PEFT folder to start from (`init_from`), with its manifest if it is one of the registry. */
  initialAdapterFolder: string | null;
  /** Aborted with the reason `shutdown`, a checkpoint is saved before training stops. */
  signal: AbortSignal;
  /**
   * Aborted, training stops once it has done a step, with a checkpoint and as if cancelled: neither within a step nor
   * within an evaluation or the checks at the end, which would begin again. @defaultValue never
   */
  pause?: AbortSignal;
  /** report-ready, checkpoint-loaded, step-finished, evaluation-finished, training-stopped-early, checkpoint-saved. */
  onEvent(event: NewJobEvent): void;
  /** What was measured of this machine; null: no estimate is made. */
  machine?: MachineProfile | null;
  /** Called as the base model's weights arrive. */
  onLoading?: NonNullable<LoadOptions['onProgress']>;
  /** Keeps the base model for the next job; default: the model is freed at the end. */
  cache?: BaseModelCache;
}

/** Trains a LoRA adapter and writes it as a PEFT folder.
 *
 * Runs in a process of its own: the engine's calls block. Between micro-batches the event loop gets its turn. The process
 * calls configureKernels before.
 *
 * @throws ProductError cancelled, non_finite_loss, invalid_adapter, model_*, checkpoint_not_found, what
 * trainedOutcome throws, and what planning finds wrong with the data
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  resetPeakMemory();
  const { spec, dataset, rowsFile, examples, machine = null, signal } = options;
  const model = await readModelFolder(options.modelFolder);
  const { initialAdapterFolder: initialFolder } = options;
  const initial = initialFolder === null ? null : await readInitialManifest(initialFolder);
  const plan = await planJob({ spec, model, dataset, rowsFile, examples, initial, machine, signal });
  try {
    return await trainPlanned(options, model, plan);
  } finally {
    await plan.close();
  }
}

async function trainPlanned(options: TrainOptions, model: ModelFolder, plan: Plan): Promise<TrainingOutcome> {
  const { spec, signal, dataset, machine = null, initialAdapterFolder: initialFolder } = options;
  const weightsSha256 = await digestWeights(model, { signal });
  const identityIn = (precision: FloatDType) => runIdentity({ spec, model, plan, weightsSha256, precision });
  const identities = { float32: identityIn('float32'), bfloat16: identityIn('bfloat16') };
  await removeHalfWritten(options.checkpointFolder);
  const resumeFrom = await latestCheckpoint(options.checkpointFolder, [identities.float32.id, identities.bfloat16.id]);
  const precision =
    resumeFrom === null
      ? choosePrecision(spec.training.precision, model.architecture.family, machine)
      : precisionOfCheckpoint(resumeFrom.progress.run === identities.bfloat16.id ? 'bfloat16' : 'float32');
  const { id, parts } = identities[precision.chosen];
  const restarted = resumeFrom === null ? await restartWarning(options.checkpointFolder, parts) : [];
  const report: Report = { ...plan.report, precision, warnings: [...plan.report.warnings, ...restarted] };
  options.onEvent({ type: 'report-ready', data: { report } });

  const initial = initialFolder === null ? undefined : await readInitialAdapter(initialFolder, plan.targets);
  const cache = options.cache ?? new BaseModelCache();
  try {
    const onProgress: TrainOptions['onLoading'] = (progress) => {
      throwIfStopped(signal);
      options.onLoading?.(progress);
    };
    const base = await cache.get(model, precision.chosen, weightsSha256, { onProgress });
    const adapter = new LoraAdapter(base.groups, {
      targets: plan.targets,
      dropout: spec.lora.dropout,
      seed: spec.training.seed,
      initial,
    });
    let optimizer: AdamW | undefined;
    try {
      optimizer = new AdamW(adapter.parameterCount, {
        ...ADAMW_DEFAULTS,
        weightDecay: spec.training.weight_decay,
        rateFactors: spec.lora.lora_plus_ratio === null ? null : adapter.learningRateFactors(spec.lora.lora_plus_ratio),
      });
      const described = {
        base_model: {
          name: model.name,
          family: model.architecture.family,
          weights_sha256: weightsSha256,
          architecture_sha256: parts.architecture,
        },
        dataset: { id: dataset.id, sha256: dataset.sha256, rows: dataset.rows },
        report,
      };
      const run = new TrainingRun({
        id,
        parts,
        settings: spec.training,
        steps: plan.steps,
        adapter,
        optimizer,
        recompute: spec.training.recompute === 'always' || (report.estimate?.recompute ?? false),
        training: batchSource(base, plan.training),
        validation: plan.validation === null ? null : batchSource(base, plan.validation),
        publish: report.publish,
        checkpointFolder: options.checkpointFolder,
        resumeFrom,
        checkpointAdapter: {
          ...described,
          targets: plan.targets.map(({ name, rank, scale }) => ({ name, rank, scale })),
        },
        signal,
        pause: options.pause,
        onEvent: options.onEvent,
      });
      const result = await run.toTheEnd();
      const { outputFolder } = options;
      return await trainedOutcome({ base, model, adapter, outputFolder, signal, trained: { ...described, result } });
    } finally {
      optimizer?.dispose();
      adapter.dispose();
    }
  } finally {
    if (options.cache === undefined) cache.dispose();
  }
}
