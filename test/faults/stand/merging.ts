import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'vitest';
import { accountFor, submit, type Undisturbed } from './accepted-jobs.js';
import { eventually } from './eventually.js';
import type { FaultStand } from './fault-stand.js';

/** Trains a new adapter, which has not been merged yet. All adapters are equal, and so are their merged models. */
export async function anAdapter(stand: FaultStand, undisturbed: Undisturbed): Promise<string> {
  const [job] = await accountFor(stand, [await submit(stand, 'short')], undisturbed);
  expect(job?.status).toBe('succeeded');
  return job?.adapter ?? '';
}

/** sha256 of the weights of the merged model, which is computed now if it does not exist. */
export async function mergedWeights(stand: FaultStand, adapter: string): Promise<string> {
  const folder = path.join(stand.folder, `merged-${adapter}`);
  await stand.client.downloadAdapter(adapter, { folder }, { weights: 'merged' });
  const digest = createHash('sha256')
    .update(await readFile(path.join(folder, 'model.safetensors')))
    .digest('hex');
  await rm(folder, { recursive: true });
  return digest;
}

/** Starts a merge and stops its process when it has begun to write, until it receives a SIGCONT. */
export async function mergeUnderWay(
  stand: FaultStand,
  adapter: string,
): Promise<{ pid: number; answer: Promise<number | null> }> {
  const { struck } = await stand.plan({
    program: 'merging/merge-child-main.js',
    call: 'open',
    when: 'after',
    path: '/\\.staging/merged-',
    signal: 'SIGSTOP',
  });
  const answer = fetch(`${stand.apiUrl}/adapters/${adapter}?weights=merged`).then(
    ({ status, body }) => body?.cancel().then(() => status) ?? status,
    () => null,
  );
  await struck();
  const process = await eventually(
    'the merge process',
    async () => (await stand.processes('merging/merge-child-main.js'))[0],
  );
  return { pid: process.pid, answer };
}
