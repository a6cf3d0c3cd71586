import { stat } from 'node:fs/promises';
import {
  openSafetensors,
  SafetensorsError,
  type SafetensorsFile,
  toFloat32,
  writeSafetensors,
} from '@lorasmith/safetensors';
import { asStorageError } from '@lorasmith/storage';
import type { Checkpoint, CheckpointProgress } from './checkpoint.js';

/** What is known of a checkpoint without reading its tensors. */
export interface CheckpointDescription {
  step: number;
  bytes: number;
  savedAt: Date;
  progress: CheckpointProgress;
}

/** Writes a checkpoint with one rename: a reader sees all of it or nothing. @throws ProductError `storage_full` */
export async function writeCheckpoint(file: string, checkpoint: Checkpoint): Promise<void> {
  const tensor = (name: string, values: Float32Array) => ({
    name,
    dtype: 'F32' as const,
    shape: [values.length],
    data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  });
  const { step, progress } = checkpoint;
  const tensors = [
    tensor('parameters', checkpoint.parameters),
    tensor('first_moment', checkpoint.firstMoment),
    tensor('second_moment', checkpoint.secondMoment),
    tensor('losses', checkpoint.losses),
  ];
  try {
    await writeSafetensors(file, tensors, { step: String(step), progress: JSON.stringify(progress) });
  } catch (error) {
    throw asStorageError(error);
  }
}

/** @returns null when the file is damaged: a disk that lost a block, a file cut off */
export async function readCheckpoint(file: string): Promise<Checkpoint | null> {
  return await reading(file, async (opened) => {
    const values = async (name: string) => toFloat32(await opened.read(name), 'F32');
    return {
      ...headOf(opened),
      parameters: await values('parameters'),
      firstMoment: await values('first_moment'),
      secondMoment: await values('second_moment'),
      losses: await values('losses'),
    };
  });
}

/** @returns null when the file is damaged or gone */
export async function describeCheckpoint(file: string): Promise<CheckpointDescription | null> {
  return await reading(file, async (opened) => {
    const { size, mtime } = await stat(file);
    return { ...headOf(opened), bytes: size, savedAt: mtime };
  });
}

async function reading<Result>(
  file: string,
  read: (opened: SafetensorsFile) => Promise<Result>,
): Promise<Result | null> {
  try {
    const opened = await openSafetensors(file);
    try {
      return await read(opened);
    } finally {
      await opened.close();
    }
  } catch (error) {
    // The one before is as good, only older.
    if (error instanceof SafetensorsError || error instanceof SyntaxError) return null;
    // Removed meanwhile, for a newer one.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** The first version of the format had fewer fields. */
const LATER_FIELDS = { epoch: null, trainLoss: null, evaluation: null, evaluations: null, adapter: null };

function headOf({ metadata }: SafetensorsFile): { step: number; progress: CheckpointProgress } {
  const progress = JSON.parse(metadata.get('progress') ?? '') as CheckpointProgress;
  return { step: Number(metadata.get('step')), progress: { ...LATER_FIELDS, ...progress } };
}
