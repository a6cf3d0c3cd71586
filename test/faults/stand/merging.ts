import { createHash } from 'node:crypto';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { accountFor, submit, type Undisturbed } from './accepted-jobs.js';
import { eventually } from './eventually.js';
import type { FaultStand } from './fault-stand.js';
import { continueProcess } from './processes.js';

/** A form that the registry computes from an adapter and its base model. */
export interface MergedForm {
  query: { weights: 'merged'; format?: 'gguf'; type?: 'f32' };
  /** Its folder in the cache. */
  bundle(adapter: string): string;
  weightsFile(adapter: string): string;
}

export const SAFETENSORS: MergedForm = {
  query: { weights: 'merged' },
  bundle: (adapter) => adapter,
  weightsFile: () => 'model.safetensors',
};
export const GGUF: MergedForm = {
  query: { weights: 'merged', format: 'gguf', type: 'f32' },
  bundle: (adapter) => `${adapter}.merged-f32`,
  weightsFile: (adapter) => `${adapter}-merged-f32.gguf`,
};

/** Trains a new adapter, which has not been merged yet. All adapters are equal, and so are their merged models. */
export async function anAdapter(stand: FaultStand, undisturbed: Undisturbed): Promise<string> {
  const [job] = await accountFor(stand, [await submit(stand, 'short')], undisturbed);
  expect(job?.status).toBe('succeeded');
  return job?.adapter ?? '';
}

/** sha256 of the weights of the merged model, which is computed now if it does not exist. */
export async function mergedWeights(stand: FaultStand, adapter: string, form = SAFETENSORS): Promise<string> {
  const folder = path.join(stand.folder, `merged-${adapter}`);
  await stand.client.downloadAdapter(adapter, { folder }, form.query);
  const digest = createHash('sha256')
    .update(await readFile(path.join(folder, form.weightsFile(adapter))))
    .digest('hex');
  await rm(folder, { recursive: true });
  return digest;
}

/** @returns the status; null if there is no answer */
export async function requestMerged(
  stand: FaultStand,
  adapter: string,
  form: MergedForm = SAFETENSORS,
): Promise<number | null> {
  try {
    const { status, body } = await fetch(`${stand.apiUrl}/adapters/${adapter}?${new URLSearchParams(form.query)}`);
    await body?.cancel();
    return status;
  } catch {
    return null;
  }
}

/** The unfinished folders of merges. */
export async function stagingsOfMerges(stand: FaultStand): Promise<string[]> {
  return (await readdir(path.join(stand.dataDir, '.staging'))).filter((name) => name.startsWith('merged-'));
}

/** A process that merges for a request, and does nothing until it receives a SIGCONT. */
export interface StoppedMerge {
  pid: number;
  /** The status of the request; null if it gets no answer. */
  answer: Promise<number | null>;
}

/** Starts a merge and stops its process when it has begun to write. */
export async function mergeUnderWay(stand: FaultStand, adapter: string, form = SAFETENSORS): Promise<StoppedMerge> {
  const { struck } = await stand.plan({
    program: 'merging/merge-child-main.js',
    call: 'open',
    when: 'after',
    path: '/\\.staging/merged-',
    signal: 'SIGSTOP',
  });
  const answer = requestMerged(stand, adapter, form);
  await struck();
  const process = await eventually(
    'the merge process',
    async () => (await stand.processes('merging/merge-child-main.js'))[0],
  );
  return { pid: process.pid, answer };
}

/** Starts a merge and stops its process when about this share of its `weightBytes` is written. */
export async function mergeStoppedAt(
  stand: FaultStand,
  { adapter, form, share, weightBytes }: { adapter: string; form: MergedForm; share: number; weightBytes: number },
): Promise<StoppedMerge> {
  for (;;) {
    const merge = await mergeUnderWay(stand, adapter, form);
    const [staging] = await stagingsOfMerges(stand);
    const file = path.join(stand.dataDir, '.staging', staging ?? '', form.weightsFile(adapter));
    let written = 0;
    while (written < share * weightBytes) {
      continueProcess(merge.pid);
      await sleep(1);
      process.kill(merge.pid, 'SIGSTOP');
      written = (await stat(file)).size;
    }
    if (written < weightBytes) return merge;
    // On a busy machine it may have run on: once more.
    continueProcess(merge.pid);
    await merge.answer;
    await rm(path.join(stand.dataDir, 'merged', form.bundle(adapter)), { recursive: true });
  }
}
