import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode, writeFileAtomic, writeWithinSpace } from '@lorasmith/storage';

/** Its name in the folder of a run's checkpoints. */
const FILE = 'rollout.json';

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
  await writeWithinSpace(folder, file.length, () => writeFileAtomic(join(folder, FILE), file));
}

/** @returns null when there are none of this run and batch, or they are damaged */
export async function readRollout(
  folder: string,
  { run, batch }: Pick<Rollout, 'run' | 'batch'>,
): Promise<Rollout | null> {
  try {
    const [digest, text = ''] = (await readFile(join(folder, FILE), 'utf8')).split('\n');
    if (digest !== digestOf(text)) return null;
    const rollout = JSON.parse(text) as Rollout;
    return rollout.run === run && rollout.batch === batch ? rollout : null;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
