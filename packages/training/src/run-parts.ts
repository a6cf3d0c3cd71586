import { createHash } from 'node:crypto';
import { checkpointSteps, listCheckpoints } from '@lorasmith/checkpoints';
import type { Fault, JobSpec } from '@lorasmith/contracts';
import { digestArchitecture, type ModelFolder } from '@lorasmith/model-folder';
import type { Plan } from '@lorasmith/planning';
import type { FloatDType } from '@lorasmith/tensor';

/**
 * Raise it with every change to what a checkpoint's numbers mean, or to what a step makes of them: random numbers, the
 * order of the rows, the optimizer, the layout of the parameters. Trainings under way then begin anew.
 */
const STATE_FORMAT = '1';

/** What a run is made of: two attempts are the same training where all of it is the same. In words, for a user. */
const PARTS = {
  format: 'how this version trains',
  settings: 'the settings of the job',
  weights: 'the weights of the base model',
  architecture: 'the config.json of the base model',
  examples: 'what the rows become (tokenizer, chat template or dataset)',
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
  /** The same for two attempts at the same training, and only then. */
  id: string;
  /** What that follows from. */
  parts: RunParts;
}

export function runIdentity({ spec, model, plan, weightsSha256, precision }: RunSources): RunIdentity {
  const { lora, training, validation } = spec;
  const parts = {
    format: STATE_FORMAT,
    settings: sha256(JSON.stringify({ lora, training, validation })),
    weights: weightsSha256,
    architecture: digestArchitecture(model.architecture),
    examples: plan.examplesSha256,
    precision,
  };
  return { id: sha256(JSON.stringify(parts)), parts };
}

/** A warning for a training that begins although its folder has checkpoints: which, and what does not fit. */
export async function whyBegunAnew(checkpointFolder: string, parts: RunParts): Promise<Fault[]> {
  const [newest] = await checkpointSteps(checkpointFolder);
  if (newest === undefined) return [];
  const [readable] = await listCheckpoints(checkpointFolder);
  const { step, reason } =
    readable === undefined
      ? { step: newest, reason: 'it is damaged' }
      : { step: readable.step, reason: unfit(readable.progress.parts, parts) };
  const message = `The training begins anew: the checkpoint of step ${step} is not gone on from, since ${reason}.`;
  return [{ code: 'training_begun_anew', message }];
}

function unfit(saved: Record<string, string> | null, parts: RunParts): string {
  if (saved === null) return 'an earlier version saved it';
  const names = Object.keys(PARTS) as (keyof RunParts)[];
  // Either precision would have been gone on in.
  const changed = names.filter((name) => name !== 'precision' && saved[name] !== parts[name]);
  if (changed.length === 0) return 'it is damaged';
  return `these have changed: ${changed.map((name) => PARTS[name]).join(', ')}`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
