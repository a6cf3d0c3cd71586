import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { systemErrorCode } from '@lorasmith/storage';
import {
  type CheckpointDescription,
  type CheckpointState,
  describeCheckpoint,
  readCheckpoint as readFile,
  writeCheckpoint,
} from './checkpoint-file.js';

const NAME = /^step-(\d{10})\.safetensors$/;
const TEMPORARY = /^(step-\d{10}\.safetensors|reference\.safetensors|rollout\.json)\.[0-9a-f]+\.tmp$/;

const nameOf = (step: number) => `step-${String(step).padStart(10, '0')}.safetensors`;

export interface SaveOptions {
  /**
   * Checkpoints before this one that are retained, besides the best of each: the newest may be damaged when it is needed.
   * @defaultValue 1
   */
  before?: number;
}

/**
 * Saves a checkpoint, then removes what is no longer needed: older ones, and those of other runs in this folder. Newer ones
 * of the same run stay: if this worker has lost its job without knowing it yet, they belong to the next worker.
 *
 * @throws ProductError `storage_full`
 */
export async function saveCheckpoint(
  folder: string,
  checkpoint: CheckpointState,
  { before = 1 }: SaveOptions = {},
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeCheckpoint(join(folder, nameOf(checkpoint.step)), checkpoint);
  const all = await checkpointSteps(folder);
  const known = await Promise.all(all.map((step) => describeCheckpoint(join(folder, nameOf(step)))));
  const ofRun = known.filter((one) => one !== null).filter(({ progress }) => progress.run === checkpoint.progress.run);
  const ahead = ofRun.filter(({ step }) => step > checkpoint.step);
  const newest = ofRun.filter(({ step }) => step <= checkpoint.step).slice(0, 1 + before);
  const retained = new Set(
    [...ahead, ...newest].flatMap(({ step, progress }) => [step, progress.evaluations.best?.step ?? step]),
  );
  for (const step of all) if (!retained.has(step)) await rm(join(folder, nameOf(step)), { force: true });
}

/**
 * The newest checkpoint that can be read.
 * @param runs see {@link CheckpointProgress.run}; one of any of them
 * @returns null when there is none
 */
export async function latestCheckpoint(folder: string, runs: readonly string[]): Promise<CheckpointState | null> {
  for (const step of await checkpointSteps(folder)) {
    const checkpoint = await readFile(join(folder, nameOf(step)));
    if (checkpoint !== null && runs.includes(checkpoint.progress.run)) return checkpoint;
  }
  return null;
}

/** @throws ProductError `checkpoint_not_found` */
export async function readCheckpoint(folder: string, step: number): Promise<CheckpointState> {
  const checkpoint = await readFile(join(folder, nameOf(step)));
  if (checkpoint !== null) return checkpoint;
  const message = (await checkpointSteps(folder)).includes(step)
    ? `The checkpoint of step ${step} is damaged. Publish another one, or train again.`
    : `The checkpoint of step ${step} no longer exists.`;
  throw new ProductError('checkpoint_not_found', message);
}

/** All readable checkpoints, newest first. */
export async function listCheckpoints(folder: string): Promise<CheckpointDescription[]> {
  const steps = await checkpointSteps(folder);
  const known = await Promise.all(steps.map((step) => describeCheckpoint(join(folder, nameOf(step)))));
  return known.filter((one) => one !== null);
}

/**
 * Removes the incomplete files of writers that were killed. Call it only when nothing writes to the folder.
 * @param options.writtenBefore Files written to at that time or later stay. @defaultValue no file stays
 */
export async function removeIncomplete(folder: string, options: { writtenBefore?: Date } = {}): Promise<void> {
  const before = options.writtenBefore?.getTime() ?? Number.POSITIVE_INFINITY;
  for (const name of (await namesIn(folder)).filter((one) => TEMPORARY.test(one))) {
    const file = join(folder, name);
    if ((await writtenMs(file)) < before) await rm(file, { force: true });
  }
}

/** Bytes of all files, readable or not. */
export async function checkpointBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const step of await checkpointSteps(folder)) {
    // A newer one may have replaced it meanwhile.
    bytes += await stat(join(folder, nameOf(step))).then(({ size }) => size, zeroWhereAbsent);
  }
  return bytes;
}

function zeroWhereAbsent(error: unknown): number {
  if (systemErrorCode(error) === 'ENOENT') return 0;
  throw error;
}

/** Infinity if it was removed meanwhile. */
async function writtenMs(file: string): Promise<number> {
  try {
    return (await stat(file)).mtimeMs;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return Number.POSITIVE_INFINITY;
    throw error;
  }
}

/** Steps of all files, readable or not, newest first. */
export async function checkpointSteps(folder: string): Promise<number[]> {
  const steps = (await namesIn(folder)).flatMap((name) => NAME.exec(name)?.[1] ?? []).map(Number);
  return steps.sort((a, b) => b - a);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}
