import {
  type AdapterManifest,
  type Dataset,
  type JobSpec,
  ProductError,
  type TrainingOutcome,
} from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import { baseMismatch, type ModelFolder, ModelTexts, readModelFolder, WeightDigests } from '@lorasmith/model-folder';
import type { LoadedModel } from '@lorasmith/models';
import { logitsPerChunk, type Plan, planJob, type TokenizingProgress } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';
import { BaseModelCache, stoppableLoading } from './base-model-cache.js';
import { batchSource } from './batches.js';
import { engineError } from './engine-error.js';
import { findStart } from './find-start.js';
import { readInitialAdapter, readInitialManifest } from './initial-adapter.js';
import { runIdentity } from './run-parts.js';
import { Sampler, type SamplerOptions } from './sampler.js';
import type { Participant } from './shared-pass/pass-scheduler.js';
import type { TrainOptions } from './train-options.js';
import { TrainingRun } from './training-run.js';

/** A run that is ready for its next step, with the base model that it trains on. */
export interface PreparedRun {
  run: TrainingRun;
  model: ModelFolder;
  base: LoadedModel;
  adapter: LoraAdapter;
  /** What the manifest will say of what was trained on. */
  described: Pick<TrainingOutcome, 'base_model' | 'dataset' | 'validation_dataset' | 'report'>;
  /** See Plan. */
  settingsForLessMemory: Plan['settingsForLessMemory'];
  /** Frees all that belongs to the run, and releases the base model. */
  dispose(): Promise<void>;
}

/** Plans the job, finds the checkpoint to resume, loads the base model and sets up adapter and optimizer. */
export async function prepareRun(options: TrainOptions, passes: Participant): Promise<PreparedRun> {
  const disposals: (() => void | Promise<void>)[] = [];
  const dispose = async () => {
    for (const one of disposals.splice(0).reverse()) await one();
  };
  let settingsForLessMemory: Plan['settingsForLessMemory'] = () => null;
  try {
    const { spec, dataset, initialAdapterFolder: initialFolder, signal, texts = new ModelTexts() } = options;
    const model = await readModelFolder(options.modelFolder);
    const initialManifest = initialFolder === null ? null : await readInitialManifest(initialFolder);
    const onProgress = ({ rows, totalRows }: TokenizingProgress) =>
      options.onEvent({ type: 'tokenizing-progressed', data: { rows, total_rows: totalRows } });
    const digests = options.digests ?? new WeightDigests(null);
    const knownWeights = await digests.known(model);
    const plan = await planJob({
      ...options,
      texts,
      model,
      initial: initialManifest,
      weightsSha256: knownWeights,
      onProgress,
    });
    disposals.push(() => plan.close());
    settingsForLessMemory = plan.settingsForLessMemory;
    const identityIn = (precision: FloatDType, weightsSha256: string) =>
      runIdentity({ spec, model, plan, weightsSha256, precision });
    const weightsOfCheckpoints = async () => knownWeights ?? (await digests.compute(model, { signal }));
    const start = await findStart(options, { model, weightsOfCheckpoints, identityIn });
    const { precision, resumeFrom } = start;
    const recompute = spec.training.recompute === 'always' || (plan.report.estimate?.recompute ?? false);
    const leaveMemory = options.admit?.(plan.memoryNeeds({ precision: precision.chosen, recompute }));
    if (leaveMemory !== undefined) disposals.push(leaveMemory);
    const report = { ...plan.report, precision, warnings: [...plan.report.warnings, ...start.warnings] };
    options.onEvent({ type: 'report-ready', data: { report } });

    const initial = initialFolder === null ? undefined : await readInitialAdapter(initialFolder, plan.targets);
    const cache = options.cache ?? new BaseModelCache();
    if (options.cache === undefined) disposals.push(() => cache.dispose());
    const logitsInChunk = logitsPerChunk(options.machine ?? null, precision.chosen);
    const loading = { ...stoppableLoading(options), logitsInChunk, digests };
    const held = await cache.hold(model, precision.chosen, loading);
    disposals.push(() => held.release());
    const { model: base, weightsSha256 } = held;
    if (initialManifest !== null) requireWeightsOf(initialManifest, model, weightsSha256);
    const identity = identityIn(precision.chosen, weightsSha256);
    if (resumeFrom !== null && resumeFrom.progress.run !== identity.id) {
      throw new ProductError('model_file_corrupt', `${model.name} has changed while it was in use. Start again.`);
    }
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
      dataset: referenceTo(dataset),
      validation_dataset: options.validation ? referenceTo(options.validation.dataset) : null,
      report,
    };
    const trained = targets.map(({ name, rank, scale }) => ({ name, rank, scale }));
    const run = new TrainingRun({
      identity,
      settings: spec.training,
      steps: plan.steps,
      recompute,
      adapter,
      optimizer,
      data: {
        training: batchSource(base, plan.training),
        validation: plan.validation === null ? null : batchSource(base, plan.validation),
      },
      passes,
      sampler: await samplerOf({ spec, model, base, adapter, prompts: plan.prompts, texts, turn: passes.turn }),
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

function referenceTo({ id, sha256, rows }: Dataset): TrainingOutcome['dataset'] {
  return { id, sha256, rows };
}

/** What answers the prompts of a job; null where it has none. */
async function samplerOf({ spec, model, base, texts, ...rest }: SamplingRun): Promise<Sampler | null> {
  if (spec.samples === null || base.kind !== 'decoder') return null;
  const text = await texts.of(model.path);
  return new Sampler({ base, text, settings: spec.samples, seed: spec.training.seed, ...rest });
}

interface SamplingRun extends Pick<SamplerOptions, 'adapter' | 'prompts' | 'turn'> {
  spec: JobSpec;
  model: ModelFolder;
  base: LoadedModel;
  texts: ModelTexts;
}

/** The weights of the base model are those with which the initial adapter was made. Planning could compare them only if their digest was known. */
function requireWeightsOf(initial: AdapterManifest, { name }: ModelFolder, weightsSha256: string): void {
  const mismatch = baseMismatch(initial.id, initial.base_model, { name, weights_sha256: weightsSha256 });
  if (mismatch !== null) throw new ProductError('invalid_adapter', mismatch, { param: 'lora.init_from' });
}
