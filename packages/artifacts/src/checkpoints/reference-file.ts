import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openSafetensors, SafetensorsError, toFloat32, writeSafetensors } from '@lorasmith/safetensors';
import { systemErrorCode, writeWithinSpace } from '@lorasmith/storage';

/** Its name in the folder of a run's checkpoints. */
const FILE = 'reference.safetensors';
/** More than the header has. */
const HEADER_BYTES = 4_096;

/** The log-probabilities of a run's answers under its reference. */
export interface ReferenceScores {
  /** The identity of the run: base model, initial adapter, examples and precision are in it. */
  run: string;
  /** `[examples, width]`, of a pair those of the chosen and the rejected answer; NaN where they are not computed yet. */
  scores: Float32Array;
  /** Log-probabilities of an example. */
  width: number;
}

/**
 * Writes them beside the checkpoints of the run, with one rename.
 * @throws ProductError `storage_full`
 */
export async function writeReference(folder: string, { run, scores, width }: ReferenceScores): Promise<void> {
  await mkdir(folder, { recursive: true });
  const data = new Uint8Array(scores.buffer, scores.byteOffset, scores.byteLength);
  const tensor = { name: 'scores', dtype: 'F32' as const, shape: [scores.length / width, width], data };
  const metadata = { run, sha256: digestOf(data) };
  await writeWithinSpace(folder, data.byteLength + HEADER_BYTES, () =>
    writeSafetensors(join(folder, FILE), [tensor], metadata),
  );
}

/** @returns null when there are none of this run, this many examples and so many of each, or they are damaged */
export async function readReference(
  folder: string,
  { run, rows, width }: { run: string; rows: number; width: number },
): Promise<Float32Array | null> {
  try {
    const opened = await openSafetensors(join(folder, FILE));
    try {
      const shape = opened.tensors.get('scores')?.shape;
      if (opened.metadata.get('run') !== run || shape?.[0] !== rows || shape[1] !== width) return null;
      const bytes = await opened.read('scores');
      return digestOf(bytes) === opened.metadata.get('sha256') ? toFloat32(bytes, 'F32') : null;
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (error instanceof SafetensorsError || systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
