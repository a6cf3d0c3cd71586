import type { JobSpec, Report, TrainingOutcome, UploadedDataset } from '@lorasmith/contracts';
import { baseModelOfAdapter, type ModelFolder, type ModelTexts } from '@lorasmith/model-folder';
import { type ActingAdapter, type LoadedModel, LoraAdapter, type RowsAlike } from '@lorasmith/models';
import { type Examples, evaluationBatches, type Plan, rowOrderOf, SHARED_PASS_TOKENS } from '@lorasmith/planning';
import { ADAMW_DEFAULTS, AdamW, MOMENT_BITS } from './adamw.js';
import { batchSource } from './batches.js';
import { engineError } from './engine-here.js';
import { objectiveOn, prepareExamples } from './objectives/objectives.js';
import { Disposals, type PlannedRun, planRun } from './plan-run.js';
import { Sampler, type SamplerOptions } from './sampler.js';
import type { Participant } from './shared-pass/pass-scheduler.js';
import { type StartedRun, startRun } from './start-run.js';
import type { TrainOptions } from './train-options.js';
import { TrainingRun, type TrainingRunOptions } from './training-run.js';

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
    const started = await startRun(options, planned, disposals);
    return await buildRun(options, passes, { ...planned, ...started }, disposals);
  } catch (error) {
    await disposals.dispose();
    throw engineError(error, planned?.plan.settingsForLessMemory() ?? null);
  }
}

/**
 * Sets up what a started run trains with: adapter, optimizer, examples and sampler. It then continues from its checkpoint.
 * @throws ProductError `cancelled`, and what preparing the examples throws
 */
async function buildRun(
  options: TrainOptions,
  passes: Participant,
  parts: PlannedRun & StartedRun,
  disposals: Disposals,
): Promise<PreparedRun> {
  const { spec, onEvent } = options;
  const { model, texts, plan, start, identity, recomputedLayers } = parts;
  const base = parts.leased.model;
  const adapter = newAdapter(parts, disposals, { dropout: spec.lora.dropout, seed: spec.training.seed });
  const optimizer = newOptimizer(base, adapter, spec, disposals);
  const rows = rowOrderOf(plan.training, spec);
  const passTokens = options.machine?.pass_tokens ?? SHARED_PASS_TOKENS;
  const alike = rowsAlikeOn(base, spec);
  const prepared = await prepareExamples({
    ...{ options, plan, model, base, texts, adapter, rows, id: identity.id, passes, passTokens, alike },
  });
  const report = { ...parts.report, ...prepared.report };
  if (prepared.report !== undefined) onEvent({ type: 'report-ready', data: { report } });
  const described = descriptionOf(options, parts, report);
  const reference: ActingAdapter[] = [];
  if (parts.initial !== undefined && prepared.readsStart) {
    reference.push({ adapter: newAdapter(parts, disposals, { dropout: 0, seed: spec.training.seed }) });
  }
  const { inEngineCall } = passes;
  const { prompts, scored } = plan;
  const run = new TrainingRun({
    ...{ identity, recomputedLayers, adapter, optimizer, reference, rows, passes, onEvent },
    settings: spec.training,
    steps: plan.steps,
    data: dataOf(plan, spec, passTokens, (examples) =>
      batchSource(objectiveOn(base, examples.kind), prepared.examplesOf(examples)),
    ),
    sampler: await samplerOf({ spec, model, base, adapter, texts, inEngineCall, prompts, scored }),
    rollouts: prepared.rollouts ?? null,
    checkpoints: { folder: options.checkpointFolder, adapter: { ...described, targets: ranksAndScales(plan) } },
  });
  if (start.resumeFrom !== null) run.resume(start.resumeFrom);
  return { run, model, base, adapter, described, plan, dispose: () => disposals.dispose() };
}

/** An adapter on the targets of the plan, with the numbers of the initial one where the job names it. */
function newAdapter(
  { plan: { targets }, initial, leased }: PlannedRun & StartedRun,
  disposals: Disposals,
  options: { dropout: number; seed: number },
): LoraAdapter {
  const adapter = new LoraAdapter(leased.model.groups, { targets, initial, ...options });
  disposals.add(() => adapter.dispose());
  return adapter;
}

function newOptimizer(
  { kernels }: LoadedModel,
  adapter: LoraAdapter,
  { training, lora }: JobSpec,
  disposals: Disposals,
): AdamW {
  const { lora_plus_ratio: ratio } = lora;
  const optimizer = new AdamW(kernels, adapter.parameterCount, {
    ...ADAMW_DEFAULTS,
    momentBits: MOMENT_BITS[training.optimizer],
    weightDecay: training.weight_decay,
    rateFactors: ratio === null ? null : adapter.learningRateFactors(ratio),
  });
  disposals.add(() => optimizer.dispose());
  return optimizer;
}

/** The rows of a batch that may share their common tokens. With dropout none may: each row has its own. */
function rowsAlikeOn(base: LoadedModel, { lora }: JobSpec): RowsAlike {
  const mayShare = base.kind === 'decoder' && lora.dropout === 0;
  return (length, other) => mayShare && base.hasSameRope(length, other);
}

function dataOf(
  { training, validation }: Plan,
  spec: JobSpec,
  passTokens: number,
  source: (examples: Examples) => TrainingRunOptions['data']['training'],
): TrainingRunOptions['data'] {
  return {
    training: source(training),
    validation: validation && {
      source: source(validation),
      microBatches: [...evaluationBatches(validation, spec, passTokens)],
    },
  };
}

/** The part of the manifest about base model and data. */
function descriptionOf(
  { dataset, validation }: TrainOptions,
  { model, identity, leased }: PlannedRun & StartedRun,
  report: Report,
): PreparedRun['described'] {
  return {
    base_model: baseModelOfAdapter(model, {
      weights_sha256: leased.weightsSha256,
      architecture_sha256: identity.parts.architecture,
    }),
    dataset: referenceTo(dataset),
    validation_dataset: validation ? referenceTo(validation.dataset) : null,
    report,
  };
}

function referenceTo({ id, sha256, rows }: UploadedDataset): TrainingOutcome['dataset'] {
  return { id, sha256, rows };
}

function ranksAndScales({ targets }: Plan) {
  return targets.map(({ name, rank, scale }) => ({ name, rank, scale }));
}

/** The sampler of a job's prompts; null where it has none. */
async function samplerOf({ spec, model, base, texts, ...rest }: SamplingRun): Promise<Sampler | null> {
  if (spec.samples === null || base.kind !== 'decoder') return null;
  const text = await texts.of(model.path);
  return new Sampler({ base, text, settings: spec.samples, seed: spec.training.seed, ...rest });
}

interface SamplingRun extends Pick<SamplerOptions, 'adapter' | 'prompts' | 'scored' | 'inEngineCall'> {
  spec: JobSpec;
  model: ModelFolder;
  base: LoadedModel;
  texts: ModelTexts;
}
