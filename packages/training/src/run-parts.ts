import { createHash } from 'node:crypto';
import { checkpointSteps, listCheckpoints } from '@lorasmith/artifacts';
import { type Fault, type JobSpec, trainedSettings } from '@lorasmith/contracts';
import { digestArchitecture, type ModelFolder } from '@lorasmith/model-folder';
import type { Plan } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';

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

export type RunParts = Record<keyof typeof PARTS, string>;

export interface RunSources {
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
export async function restartWarning(checkpointFolder: string, parts: RunParts): Promise<Fault[]> {
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
