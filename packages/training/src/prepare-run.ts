import {
  type AdapterManifest,
  type JobSpec,
  ProductError,
  type Report,
  type TrainingOutcome,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import {
  baseMismatch,
  type ModelFolder,
  ModelTexts,
  quantizationOf,
  readModelFolder,
  WeightDigests,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { type ActingAdapter, ALL_LAYERS, type LoadedModel, type RowsAlike } from '@lorasmith/models';
import type { PeftAdapter } from '@lorasmith/peft-files';
import {
  type Examples,
  evaluationBatches,
  logitsPerChunk,
  type Plan,
  planJob,
  rowOrderOf,
  SHARED_PASS_TOKENS,
  type TokenizingProgress,
} from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { ADAMW_DEFAULTS, AdamW, MOMENT_BITS } from './adamw.js';
import { type HeldBase, stoppableLoading } from './base-model-cache.js';
import { batchSource } from './batches.js';
import { checkEngineHere } from './check-engine.js';
import { Disposals } from './disposals.js';
import { engineError } from './engine-error.js';
import { findStart, type RunStart } from './find-start.js';
import { readInitialAdapter, readInitialManifest } from './initial-adapter.js';
import { objectiveOn, prepareExamples } from './objectives/objectives.js';
import { type RunIdentity, runIdentity } from './run-parts.js';
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
  /** The part of the manifest about base model and data. */
  described: Pick<TrainingOutcome, 'base_model' | 'dataset' | 'validation_dataset' | 'report'>;
  plan: Plan;
  /** Frees all that belongs to the run, and releases the base model. */
  dispose(): Promise<void>;
}

/** Plans the job, finds the checkpoint to resume, loads the base model and sets up adapter and optimizer. */
export async function prepareRun(options: TrainOptions, passes: Participant): Promise<PreparedRun> {
  const disposals = new Disposals();
  let planned: PlannedRun | null = null;
  try {
    planned = await planRun(options, disposals);
    const started = await startOf(options, planned, disposals);
    return await buildRun(options, passes, { ...planned, ...started }, disposals);
  } catch (error) {
    await disposals.dispose();
    throw engineError(error, planned?.plan.settingsForLessMemory() ?? null);
  }
}

/** The plan of a run, before anything of the base model but its folder is read. */
interface PlannedRun {
  model: ModelFolder;
  texts: ModelTexts;
  digests: WeightDigests;
  initialManifest: AdapterManifest | null;
  /** Digest of the base model's weights, where it is known without reading them. */
  knownWeights: string | null;
  plan: Plan;
}

async function planRun(options: TrainOptions, disposals: Disposals): Promise<PlannedRun> {
  const { initialAdapterFolder: initialFolder, texts = new ModelTexts() } = options;
  const folder = await readModelFolder(options.modelFolder);
  const model = withBaseQuantization(folder, options.spec.training.base_quantization);
  checkEngineHere(model);
  const initialManifest = initialFolder === null ? null : await readInitialManifest(initialFolder);
  const digests = options.digests ?? new WeightDigests(null);
  const knownWeights = await digests.known(model);
  const onProgress = ({ rows, totalRows }: TokenizingProgress) =>
    options.onEvent({ type: 'tokenizing-progressed', data: { rows, total_rows: totalRows } });
  const planning = { model, texts, initial: initialManifest, weightsSha256: knownWeights, onProgress };
  const plan = await planJob({ ...options, ...planning });
  disposals.add(() => plan.close());
  return { model, texts, digests, initialManifest, knownWeights, plan };
}

/** A run that may start: where it starts from, and its base model in memory. */
interface StartedRun {
  start: RunStart;
  identity: RunIdentity;
  initial: PeftAdapter | undefined;
  held: HeldBase;
  /** See Pass in models. */
  recomputedLayers: number;
  report: Report;
}

/** Finds the checkpoint to resume, claims the memory, and loads the base model. */
async function startOf(options: TrainOptions, planned: PlannedRun, disposals: Disposals): Promise<StartedRun> {
  const { spec, signal } = options;
  const { model, digests, initialManifest, knownWeights, plan } = planned;
  const identityIn = (precision: FloatDType, weightsSha256: string) =>
    runIdentity({ spec, model, plan, weightsSha256, precision });
  const weightsOfCheckpoints = async () => knownWeights ?? (await digests.compute(model, { signal }));
  const start = await findStart(options, { model, weightsOfCheckpoints, identityIn });
  const { precision, resumeFrom } = start;
  const recomputedLayers =
    spec.training.recompute === 'always' ? ALL_LAYERS : (plan.report.estimate?.recomputed_layers ?? 0);
  const leaveMemory = options.admit?.(plan.memoryNeeds({ precision: precision.chosen, recomputedLayers }));
  if (leaveMemory !== undefined) disposals.add(leaveMemory);
  const report = { ...plan.report, precision, warnings: [...plan.report.warnings, ...start.warnings] };
  options.onEvent({ type: 'report-ready', data: { report } });

  const { initialAdapterFolder: initialFolder } = options;
  const initial = initialFolder === null ? undefined : await readInitialAdapter(initialFolder, plan.targets);
  const logitsInChunk = logitsPerChunk(options.machine ?? null, precision.chosen);
  const held = await options.cache.hold(model, precision.chosen, {
    ...stoppableLoading(options),
    logitsInChunk,
    digests,
  });
  disposals.add(() => held.release());
  if (initialManifest !== null) requireWeightsOf(initialManifest, model, held.weightsSha256);
  const identity = identityIn(precision.chosen, held.weightsSha256);
  if (resumeFrom !== null && resumeFrom.progress.run !== identity.id) {
    throw new ProductError('model_file_corrupt', `${model.name} has changed while it was in use. Start again.`);
  }
  return { start, identity, initial, held, recomputedLayers, report };
}

async function buildRun(
  options: TrainOptions,
  passes: Participant,
  {
    model,
    texts,
    plan,
    start,
    identity,
    initial,
    held,
    recomputedLayers,
    report: plannedReport,
  }: PlannedRun & StartedRun,
  disposals: Disposals,
): Promise<PreparedRun> {
  const { spec, dataset } = options;
  const { model: base, weightsSha256 } = held;
  const { targets } = plan;
  const { dropout, lora_plus_ratio: ratio } = spec.lora;
  const adapter = new LoraAdapter(base.groups, { targets, dropout, seed: spec.training.seed, initial });
  disposals.add(() => adapter.dispose());
  const optimizer = new AdamW(base.kernels, adapter.parameterCount, {
    ...ADAMW_DEFAULTS,
    momentBits: MOMENT_BITS[spec.training.optimizer],
    weightDecay: spec.training.weight_decay,
    rateFactors: ratio === null ? null : adapter.learningRateFactors(ratio),
  });
  disposals.add(() => optimizer.dispose());

  const rows = rowOrderOf(plan.training, spec);
  // With dropout, each row has its own.
  const mayShare = base.kind === 'decoder' && dropout === 0;
  const alike: RowsAlike = (length, other) => mayShare && base.hasSameRope(length, other);
  const passTokens = options.machine?.pass_tokens ?? SHARED_PASS_TOKENS;
  const prepared = await prepareExamples({
    ...{ options, plan, model, base, texts, adapter, rows, id: identity.id, passes, passTokens, alike },
  });
  const report = { ...plannedReport, ...prepared.report };
  if (prepared.report !== undefined) options.onEvent({ type: 'report-ready', data: { report } });
  const source = (examples: Examples) => batchSource(objectiveOn(base, examples.kind), prepared.examplesOf(examples));

  const described = {
    base_model: {
      name: model.name,
      family: model.architecture.family,
      weights_sha256: weightsSha256,
      architecture_sha256: identity.parts.architecture,
      quantization: quantizationOf(model),
    },
    dataset: referenceTo(dataset),
    validation_dataset: options.validation ? referenceTo(options.validation.dataset) : null,
    report,
  };
  const reference: ActingAdapter[] = [];
  if (initial !== undefined && prepared.readsStart) {
    const before = new LoraAdapter(base.groups, { targets, dropout: 0, seed: spec.training.seed, initial });
    disposals.add(() => before.dispose());
    reference.push({ adapter: before });
  }
  const trained = targets.map(({ name, rank, scale }) => ({ name, rank, scale }));
  const run = new TrainingRun({
    identity,
    settings: spec.training,
    steps: plan.steps,
    recomputedLayers,
    adapter,
    optimizer,
    reference,
    rows,
    data: {
      training: source(plan.training),
      validation: plan.validation && {
        source: source(plan.validation),
        microBatches: [...evaluationBatches(plan.validation, spec, passTokens)],
      },
    },
    passes,
    sampler: await samplerOf({
      ...{ spec, model, base, adapter, texts, turn: passes.turn },
      ...{ prompts: plan.prompts, scored: plan.scored },
    }),
    rollouts: prepared.rollouts ?? null,
    checkpoints: { folder: options.checkpointFolder, adapter: { ...described, targets: trained } },
    onEvent: options.onEvent,
  });
  if (start.resumeFrom !== null) run.resume(start.resumeFrom);
  return { run, model, base, adapter, described, plan, dispose: () => disposals.dispose() };
}

function referenceTo({ id, sha256, rows }: UploadedDataset): TrainingOutcome['dataset'] {
  return { id, sha256, rows };
}

/** The sampler of a job's prompts; null where it has none. */
async function samplerOf({ spec, model, base, texts, ...rest }: SamplingRun): Promise<Sampler | null> {
  if (spec.samples === null || base.kind !== 'decoder') return null;
  const text = await texts.of(model.path);
  return new Sampler({ base, text, settings: spec.samples, seed: spec.training.seed, ...rest });
}

interface SamplingRun extends Pick<SamplerOptions, 'adapter' | 'prompts' | 'scored' | 'turn'> {
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
