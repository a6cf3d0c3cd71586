import { createHash } from 'node:crypto';
import {
  type CheckpointState,
  checkpointSteps,
  latestCheckpoint,
  listCheckpoints,
  removeIncomplete,
} from '@lorasmith/artifacts';
import { type Fault, type JobSpec, ProductError, type Report, trainedSettings } from '@lorasmith/contracts';
import { digestArchitecture, type ModelFolder } from '@lorasmith/model-folder';
import { ALL_LAYERS } from '@lorasmith/models';
import type { PeftAdapter } from '@lorasmith/peft-files';
import { type ChosenPrecision, logitsPerChunk, type Plan } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { type LeasedBase, stoppableLoading } from './base-model-cache.js';
import { precisionHere } from './engine-here.js';
import { type Disposals, type PlannedRun, readInitialAdapter, requireWeightsOf } from './plan-run.js';
import type { TrainOptions } from './train-options.js';

/**
 * Raise it with every change to what a checkpoint's numbers mean, or to what a step makes of them: random numbers, the
 * order of the rows, the optimizer, the layout of the parameters. Running trainings then restart.
 */
const STATE_FORMAT = '2';

/** The things that a run depends on, in words for a user. Two attempts are the same training if all of them are the same. */
const PARTS = {
  format: 'how this version trains',
  settings: 'the settings of the job',
  weights: 'the weights of the base model',
  architecture: 'the config.json of the base model',
  examples: 'what the rows become (tokenizer, chat template or a dataset)',
  precision: 'the precision',
} as const;

type RunParts = Record<keyof typeof PARTS, string>;

interface RunSources {
  spec: JobSpec;
  model: ModelFolder;
  plan: Pick<Plan, 'examplesSha256'>;
  weightsSha256: string;
  precision: FloatDType;
}

/** One training, in one precision. */
export interface RunIdentity {
  /** The same for two attempts at the same training, and only for these. */
  id: string;
  /** The parts whose digest is the id. */
  parts: RunParts;
}

export function runIdentity({ spec, model, plan, weightsSha256, precision }: RunSources): RunIdentity {
  const parts = {
    format: STATE_FORMAT,
    settings: sha256(JSON.stringify(trainedSettings(spec))),
    weights: weightsSha256,
    architecture: digestArchitecture(model.architecture),
    examples: plan.examplesSha256,
    precision,
  };
  return { id: sha256(JSON.stringify(parts)), parts };
}

/** The warning of a training that restarts although its folder has checkpoints: which one, and why it is not resumed. */
async function restartWarning(checkpointFolder: string, parts: RunParts): Promise<Fault[]> {
  const [newest] = await checkpointSteps(checkpointFolder);
  if (newest === undefined) return [];
  const [readable] = await listCheckpoints(checkpointFolder);
  const { step, reason } =
    readable === undefined
      ? { step: newest, reason: 'it is damaged' }
      : { step: readable.step, reason: unfit(readable.progress.parts, parts) };
  const message = `The checkpoint of step ${step} cannot be resumed: ${reason}. Training restarts from step 0.`;
  return [{ code: 'training_restarted', message }];
}

function unfit(saved: Record<string, string>, parts: RunParts): string {
  const names = Object.keys(PARTS) as (keyof RunParts)[];
  // A checkpoint is resumed in the precision that it was saved in, if the machine has it.
  const changed = names.filter((name) => name !== 'precision' && saved[name] !== parts[name]);
  if (changed.length === 0) return saved.precision === parts.precision ? 'it is damaged' : `${PARTS.precision} changed`;
  return `${changed.map((name) => PARTS[name]).join(', ')} changed`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** A run that may start: the state that it starts from, and its base model in memory. */
export interface StartedRun {
  start: RunStart;
  identity: RunIdentity;
  initial: PeftAdapter | undefined;
  leased: LeasedBase;
  /** See Pass in models. */
  recomputedLayers: number;
  report: Report;
}

/**
 * Finds the checkpoint to resume, claims the memory, and loads the base model.
 * @throws JobDeferred when others use another base model; ProductError invalid_adapter, model_file_corrupt, cancelled
 */
export async function startRun(options: TrainOptions, planned: PlannedRun, disposals: Disposals): Promise<StartedRun> {
  const { spec, signal } = options;
  const { model, digests, initialManifest, knownWeights, plan } = planned;
  const identityIn = (precision: FloatDType, weightsSha256: string) =>
    runIdentity({ spec, model, plan, weightsSha256, precision });
  const weightsOfCheckpoints = async () => knownWeights ?? (await digests.compute(model, { signal }));
  const start = await findStart(options, { model, weightsOfCheckpoints, identityIn });
  const { precision, resumeFrom } = start;
  const recomputedLayers = spec.training.recompute === 'always' ? ALL_LAYERS : plan.recomputedLayers(precision.chosen);
  const leaveMemory = options.admit?.(plan.memoryNeeds({ precision: precision.chosen, recomputedLayers }));
  if (leaveMemory !== undefined) disposals.add(leaveMemory);
  const report = { ...plan.report, precision, warnings: [...plan.report.warnings, ...start.warnings] };
  options.onEvent({ type: 'report-ready', data: { report } });

  const { initialAdapterFolder: initialFolder } = options;
  const initial = initialFolder === null ? undefined : await readInitialAdapter(initialFolder, plan.targets);
  const logitsInChunk = logitsPerChunk(options.machine ?? null, precision.chosen);
  const leased = await options.cache.lease(model, precision.chosen, {
    ...stoppableLoading(options),
    logitsInChunk,
    digests,
  });
  disposals.add(() => leased.release());
  if (initialManifest !== null) requireWeightsOf(initialManifest, model, leased.weightsSha256);
  const identity = identityIn(precision.chosen, leased.weightsSha256);
  if (resumeFrom !== null && resumeFrom.progress.run !== identity.id) {
    throw new ProductError('model_file_corrupt', `${model.name} has changed while it was in use. Start again.`);
  }
  return { start, identity, initial, leased, recomputedLayers, report };
}

/** The state that a run begins from. */
interface RunStart {
  precision: ChosenPrecision;
  /** Null: at step 0. */
  resumeFrom: CheckpointState | null;
  warnings: Fault[];
}

interface StartSources {
  model: ModelFolder;
  /** The digest of the base model's weights, which may have to be read for it. */
  weightsOfCheckpoints: () => Promise<string>;
  identityIn: (precision: FloatDType, weightsSha256: string) => RunIdentity;
}

/**
 * The newest checkpoint of this run, in whichever precision it began; a new run takes the precision of this machine. The digest
 * of the weights is asked for only if there are checkpoints: a new run gets it with the weights, which are then read once.
 */
async function findStart(
  { spec, machine = null, checkpointFolder, cache }: TrainOptions,
  { model, weightsOfCheckpoints, identityIn }: StartSources,
): Promise<RunStart> {
  const newRun = () => precisionHere(spec.training.precision, model.architecture.family, machine, cache.kernels);
  await removeIncomplete(checkpointFolder);
  if ((await checkpointSteps(checkpointFolder)).length === 0) {
    return { precision: newRun(), resumeFrom: null, warnings: [] };
  }
  const weightsSha256 = await weightsOfCheckpoints();
  const identities = { float32: identityIn('float32', weightsSha256), bfloat16: identityIn('bfloat16', weightsSha256) };
  // A GPU without bfloat16 cannot resume what was trained in it.
  const usable = machine?.rates.bfloat16 === null ? [identities.float32] : [identities.float32, identities.bfloat16];
  const resumeFrom = await latestCheckpoint(
    checkpointFolder,
    usable.map(({ id }) => id),
  );
  if (resumeFrom !== null) {
    const precision = resumeFrom.progress.run === identities.bfloat16.id ? 'bfloat16' : 'float32';
    return { precision: precisionOfCheckpoint(precision), resumeFrom, warnings: [] };
  }
  const precision = newRun();
  const warnings = await restartWarning(checkpointFolder, identities[precision.chosen].parts);
  return { precision, resumeFrom, warnings };
}

/** The precision of a run that is resumed: its own, whichever is faster on the machine of the next worker. */
function precisionOfCheckpoint(chosen: FloatDType): ChosenPrecision {
  return { chosen, reason: 'The training is resumed from a checkpoint in this precision.' };
}
