import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode, writeFileAtomic, writeWithinSpace } from '@lorasmith/storage';
import { openSafetensors, SafetensorsError, toFloat32, writeSafetensors } from '@lorasmith/weight-files';

/** Its name in the folder of a run's checkpoints. */
const ROLLOUT_FILE = 'rollout.json';

/** A sampled answer. Numbers of float32 stay what they are in JSON. */
export interface RolloutAnswer {
  ids: number[];
  log_probabilities: number[];
  has_ended: boolean;
}

/** The answers to each prompt, in the order in which the step reads them: without rewards, until they are graded. */
export type RolloutGroups =
  | { kind: 'sampled'; groups: RolloutAnswer[][] }
  | { kind: 'graded'; groups: (RolloutAnswer & { reward: number })[][] };

/** The answers that a run trains on now. */
export type Rollout = RolloutGroups & {
  /** The identity of the run. */
  run: string;
  /** The number of this batch of answers, from 0. */
  batch: number;
};

/**
 * Writes them beside the checkpoints of the run, in the place of those before.
 * @throws ProductError `storage_full`
 */
export async function writeRollout(folder: string, rollout: Rollout): Promise<void> {
  await mkdir(folder, { recursive: true });
  const text = JSON.stringify(rollout);
  const file = `${digestOf(text)}\n${text}`;
  await writeWithinSpace(folder, file.length, () => writeFileAtomic(join(folder, ROLLOUT_FILE), file));
}

/** @returns null when there are none of this run and batch, or they are damaged */
export async function readRollout(
  folder: string,
  { run, batch }: Pick<Rollout, 'run' | 'batch'>,
): Promise<Rollout | null> {
  try {
    const [digest, text = ''] = (await readFile(join(folder, ROLLOUT_FILE), 'utf8')).split('\n');
    if (digest !== digestOf(text)) return null;
    const rollout = JSON.parse(text) as Rollout;
    return rollout.run === run && rollout.batch === batch ? rollout : null;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Its name in the folder of a run's checkpoints. */
const REFERENCE_FILE = 'reference.safetensors';
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
    writeSafetensors(join(folder, REFERENCE_FILE), [tensor], metadata),
  );
}

/** @returns null when there are none of this run, this many examples and so many of each, or they are damaged */
export async function readReference(
  folder: string,
  { run, rows, width }: { run: string; rows: number; width: number },
): Promise<Float32Array | null> {
  try {
    const opened = await openSafetensors(join(folder, REFERENCE_FILE));
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

function digestOf(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
