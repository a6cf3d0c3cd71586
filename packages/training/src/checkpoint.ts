import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Evaluation } from '@lorasmith/contracts';
import { openSafetensors, SafetensorsError, toFloat32, writeSafetensors } from '@lorasmith/safetensors';

/** Everything a run needs to go on as if it had not been interrupted. Random numbers follow from seed and step. */
export interface Checkpoint {
  /** Optimizer steps done. */
  step: number;
  /** `[parameters]` each, in the layout of the adapter. */
  parameters: Float32Array;
  firstMoment: Float32Array;
  secondMoment: Float32Array;
  /** One per step done. */
  losses: Float32Array;
  progress: CheckpointProgress;
}

export interface CheckpointProgress {
  /** Of what the run is made; a checkpoint of another run is not taken. */
  run: string;
  tokens: number;
  trainedTokens: number;
  seconds: number;
  evaluationBefore: Evaluation | null;
}

/** Older ones are removed once a newer one is on disk. */
const KEPT = 2;
const NAME = /^step-(\d{10})\.safetensors$/;

/** Writes a checkpoint with one rename: a reader sees all of it or nothing. */
export async function saveCheckpoint(folder: string, checkpoint: Checkpoint): Promise<void> {
  await mkdir(folder, { recursive: true });
  const tensor = (name: string, values: Float32Array) => ({
    name,
    dtype: 'F32' as const,
    shape: [values.length],
    data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  });
  const { step, parameters, firstMoment, secondMoment, losses, progress } = checkpoint;
  const path = join(folder, `step-${String(step).padStart(10, '0')}.safetensors`);
  const tensors = [
    tensor('parameters', parameters),
    tensor('first_moment', firstMoment),
    tensor('second_moment', secondMoment),
    tensor('losses', losses),
  ];
  await writeSafetensors(path, tensors, { step: String(step), progress: JSON.stringify(progress) });
  // One of a later step is broken or another run's, or this run would have gone on from it.
  const all = await list(folder);
  const later = all.filter((other) => other.step > step);
  const older = all.filter((other) => other.step <= step).slice(KEPT);
  for (const { name } of [...later, ...older]) await rm(join(folder, name), { force: true });
}

/**
 * The newest checkpoint that can be read.
 * @param run see {@link CheckpointProgress.run}
 * @returns null when there is none, or none of this run
 */
export async function latestCheckpoint(folder: string, run: string): Promise<Checkpoint | null> {
  for (const { name } of await list(folder)) {
    try {
      const checkpoint = await read(join(folder, name));
      if (checkpoint.progress.run === run) return checkpoint;
    } catch (error) {
      // A disk that lost a block: the one before is as good, only older.
      if (!(error instanceof SafetensorsError || error instanceof SyntaxError)) throw error;
    }
  }
  return null;
}

async function read(path: string): Promise<Checkpoint> {
  const file = await openSafetensors(path);
  try {
    const values = async (name: string) => toFloat32(await file.read(name), 'F32');
    return {
      step: Number(file.metadata.get('step')),
      parameters: await values('parameters'),
      firstMoment: await values('first_moment'),
      secondMoment: await values('second_moment'),
      losses: await values('losses'),
      progress: JSON.parse(file.metadata.get('progress') ?? '') as CheckpointProgress,
    };
  } finally {
    await file.close();
  }
}

/** Newest first. */
async function list(folder: string): Promise<{ name: string; step: number }[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .flatMap((name) => {
      const step = NAME.exec(name)?.[1];
      return step === undefined ? [] : [{ name, step: Number(step) }];
    })
    .sort((a, b) => b.step - a.step);
}
