import { type CheckpointState, checkpointSteps, latestCheckpoint, removeIncomplete } from '@lorasmith/artifacts';
import type { Fault } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { ChosenPrecision } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';
import { precisionHere, precisionOfCheckpoint } from './precision.js';
import { type RunIdentity, restartWarning } from './run-parts.js';
import type { TrainOptions } from './train-options.js';

/** Where a run begins. */
export interface RunStart {
  precision: ChosenPrecision;
  /** Null: at step 0. */
  resumeFrom: CheckpointState | null;
  warnings: Fault[];
}

export interface StartSources {
  model: ModelFolder;
  /** The digest of the base model's weights, which may have to be read for it. */
  weightsOfCheckpoints: () => Promise<string>;
  identityIn: (precision: FloatDType, weightsSha256: string) => RunIdentity;
}

/**
 * The newest checkpoint of this run, in whichever precision it began; a new run takes the precision of this machine. The digest
 * of the weights is asked for only if there are checkpoints: a new run gets it with the weights, which are then read once.
 */
export async function findStart(
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
