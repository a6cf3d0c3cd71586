import { type Checkpoint, latestCheckpoint, removeIncomplete } from '@lorasmith/checkpoints';
import type { Report, TrainingOutcome } from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import { type ModelFolder, readModelFolder, WeightDigests } from '@lorasmith/model-folder';
import type { BaseModel } from '@lorasmith/models';
import { logitsPerChunk, type Plan, planJob, type TokenizingProgress } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';
import { BaseModelCache, stoppableLoading } from './base-model-cache.js';
import { batchSource } from './batches.js';
import { engineError } from './engine-error.js';
import { readInitialAdapter, readInitialManifest } from './initial-adapter.js';
import { choosePrecision, precisionOfCheckpoint } from './precision.js';
import { type RunIdentity, restartWarning, runIdentity } from './run-parts.js';
import type { TrainOptions } from './train.js';
import { TrainingRun } from './training-run.js';

/** A run that is ready for its next step, with the base model that it trains on. */
export interface PreparedRun {
  run: TrainingRun;
  model: ModelFolder;
  base: BaseModel;
  adapter: LoraAdapter;
  /** What the manifest will say of what was trained on. */
  described: Pick<TrainingOutcome, 'base_model' | 'dataset' | 'report'>;
  /** See Plan. */
  settingsForLessMemory: Plan['settingsForLessMemory'];
  /** Frees all that belongs to the run; the base model belongs to the cache of the options, if there is one. */
  dispose(): Promise<void>;
}

/** Plans the job, finds the checkpoint to resume, loads the base model and sets up adapter and optimizer. */
export async function prepareRun(options: TrainOptions): Promise<PreparedRun> {
  const disposals: (() => void | Promise<void>)[] = [];
  const dispose = async () => {
    for (const one of disposals.splice(0).reverse()) await one();
  };
  let settingsForLessMemory: Plan['settingsForLessMemory'] = () => null;
  try {
    const { spec, dataset, initialAdapterFolder: initialFolder, signal } = options;
    const model = await readModelFolder(options.modelFolder);
    const initialManifest = initialFolder === null ? null : await readInitialManifest(initialFolder);
    const onProgress = ({ rows, totalRows }: TokenizingProgress) =>
      options.onEvent({ type: 'tokenizing-progressed', data: { rows, total_rows: totalRows } });
    const digests = options.digests ?? new WeightDigests(null);
    const knownWeights = initialManifest === null ? null : await digests.compute(model, { signal });
    const plan = await planJob({
      ...options,
      model,
      initial: initialManifest,
      weightsSha256: knownWeights,
      onProgress,
    });
    disposals.push(() => plan.close());
    settingsForLessMemory = plan.settingsForLessMemory;
    const weightsSha256 = knownWeights ?? (await digests.compute(model, { signal }));
    const { identity, resumeFrom, report } = await startOf(options, { model, plan, weightsSha256 });
    options.onEvent({ type: 'report-ready', data: { report } });

    const initial = initialFolder === null ? undefined : await readInitialAdapter(initialFolder, plan.targets);
    const cache = options.cache ?? new BaseModelCache();
    if (options.cache === undefined) disposals.push(() => cache.dispose());
    const precision = report.precision.chosen!;
    const logitsInChunk = logitsPerChunk(options.machine ?? null, precision);
    const loading = { ...stoppableLoading(options), logitsInChunk, digests };
    const { model: base } = await cache.get(model, precision, loading);
    const { targets } = plan;
    const { dropout, lora_plus_ratio: ratio } = spec.lora;
    const adapter = new LoraAdapter(base.groups, { targets, dropout, seed: spec.training.seed, initial });
    disposals.push(() => adapter.dispose());
    const optimizer = new AdamW(adapter.parameterCount, {
      ...ADAMW_DEFAULTS,
      weightDecay: spec.training.weight_decay,
      rateFactors: ratio === null ? null : adapter.learningRateFactors(ratio),
    });
    disposals.push(() => optimizer.dispose());

    const described = {
      base_model: {
        name: model.name,
        family: model.architecture.family,
        weights_sha256: weightsSha256,
        architecture_sha256: identity.parts.architecture,
      },
      dataset: { id: dataset.id, sha256: dataset.sha256, rows: dataset.rows },
      report,
    };
    const trained = targets.map(({ name, rank, scale }) => ({ name, rank, scale }));
    const run = new TrainingRun({
      identity,
      settings: spec.training,
      steps: plan.steps,
      recompute: spec.training.recompute === 'always' || (report.estimate?.recompute ?? false),
      adapter,
      optimizer,
      data: {
        training: batchSource(base, plan.training),
        validation: plan.validation === null ? null : batchSource(base, plan.validation),
      },
      checkpoints: { folder: options.checkpointFolder, adapter: { ...described, targets: trained } },
      onEvent: options.onEvent,
    });
    if (resumeFrom !== null) run.resume(resumeFrom);
    return { run, model, base, adapter, described, settingsForLessMemory, dispose };
  } catch (error) {
    await dispose();
    throw engineError(error, settingsForLessMemory());
  }
}

/** The newest checkpoint of this run, in whichever precision it began; a new run takes the precision of this machine. */
async function startOf(
  { spec, machine = null, checkpointFolder }: TrainOptions,
  { model, plan, weightsSha256 }: { model: ModelFolder; plan: Plan; weightsSha256: string },
): Promise<{ identity: RunIdentity; resumeFrom: Checkpoint | null; report: Report }> {
  const identityIn = (precision: FloatDType) => runIdentity({ spec, model, plan, weightsSha256, precision });
  const identities = { float32: identityIn('float32'), bfloat16: identityIn('bfloat16') };
  await removeIncomplete(checkpointFolder);
  // A GPU without bfloat16 cannot resume what was trained in it.
  const usable = machine?.rates.bfloat16 === null ? [identities.float32] : [identities.float32, identities.bfloat16];
  const ids = usable.map(({ id }) => id);
  const resumeFrom = await latestCheckpoint(checkpointFolder, ids);
  const precision =
    resumeFrom === null
      ? choosePrecision(spec.training.precision, model.architecture.family, machine)
      : precisionOfCheckpoint(resumeFrom.progress.run === identities.bfloat16.id ? 'bfloat16' : 'float32');
  const identity = identities[precision.chosen];
  const restarted = resumeFrom === null ? await restartWarning(checkpointFolder, identity.parts) : [];
  const report = { ...plan.report, precision, warnings: [...plan.report.warnings, ...restarted] };
  return { identity, resumeFrom, report };
}
