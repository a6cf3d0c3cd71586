import { execFileSync } from 'node:child_process';
import { cp, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../../packages/safetensors/src/index.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, type Strike, startStand } from './stand/fault-stand.js';
import { BASE_MODEL } from './stand/jobs-of-the-suite.js';
import { anAdapter, mergedWeights, mergeUnderWay } from './stand/merging.js';
import { continueProcess, isAlive } from './stand/processes.js';

// The merge process or the registry dies at each point of a merge: while it reads, merges, writes and syncs, and around the
// rename that publishes. Nothing incomplete is served, nothing is left, and the next request makes the same model.

/** The base has a tensor of this size besides, so that merging takes long enough to be interrupted. */
const EXTRA_BYTES = 192 * 2 ** 20;

let folder: string;
let stand: FaultStand;
let registry: Part;
let adapter: string;
let expected: string;
let weightBytes: number;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-merge-killed-'));
  const modelsDir = path.join(folder, 'models');
  await cp(inject('modelsDir'), modelsDir, { recursive: true });
  await addTensor(path.join(modelsDir, BASE_MODEL, 'model.safetensors'));
  stand = await startStand({ modelsDir, machinesDir: inject('machinesDir') });
  [registry] = await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  await stand.startApi();
  adapter = await anAdapter(stand, inject('undisturbed'));
  expected = await mergedWeights(stand, adapter);
  weightBytes = (await stat(path.join(stand.dataDir, 'merged', adapter, 'model.safetensors'))).size;
});
afterAll(async () => {
  await stand?.close();
  await rm(folder, { recursive: true, force: true });
});
// The cache finds that its model is missing, and makes it again.
beforeEach(() => rm(path.join(stand.dataDir, 'merged', adapter), { recursive: true, force: true }));

async function addTensor(file: string): Promise<void> {
  const weights = await openSafetensors(file);
  const tensors = [...weights.tensors.values()].map(
    ({ name, dtype, shape }): TensorToWrite => ({ name, dtype, shape, data: () => weights.read(name) }),
  );
  const data = Buffer.alloc(EXTRA_BYTES, 'not adapted');
  await writeSafetensors(file, [...tensors, { name: 'extra', dtype: 'F32', shape: [EXTRA_BYTES / 4], data }]);
  await weights.close();
}

const stagingsOfMerges = async () =>
  (await readdir(path.join(stand.dataDir, '.staging'))).filter((name) => name.startsWith('merged-'));

const requestMerged = () =>
  fetch(`${stand.apiUrl}/adapters/${adapter}?weights=merged`).then(
    async ({ status, body }) => {
      await body?.cancel();
      return status;
    },
    () => null,
  );

/** Starts a merge and stops its process when about this share of the weights is written. */
async function mergeStoppedAt(share: number): ReturnType<typeof mergeUnderWay> {
  for (;;) {
    const merge = await mergeUnderWay(stand, adapter);
    const [staging] = await stagingsOfMerges();
    const file = path.join(stand.dataDir, '.staging', staging ?? '', 'model.safetensors');
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
    await rm(path.join(stand.dataDir, 'merged', adapter), { recursive: true });
  }
}

describe('the merge process', () => {
  test.each<[string, Omit<Strike, 'program'>]>([
    ['before it reads the weights', { call: 'open', when: 'before', path: 'tiny-llama/model\\.safetensors$', skip: 1 }],
    ['before it merges', { call: 'open', when: 'after', path: '/\\.staging/merged-' }],
    ['before it syncs', { call: 'sync', when: 'before', path: '/\\.staging/merged-' }],
    ['after it has synced', { call: 'sync', when: 'after', path: '/\\.staging/merged-' }],
  ])('%s', async (_, strike) => {
    const { struck } = await stand.plan({ program: 'merging/merge-child-main.js', ...strike });
    const answer = requestMerged();
    await struck();
    expect(await answer).toBe(500);
    expect(await readdir(path.join(stand.dataDir, 'merged'))).toEqual([]);
    expect(await stagingsOfMerges()).toEqual([]);
    expect(await mergedWeights(stand, adapter)).toBe(expected);
  });

  test.each([0.1, 0.6])('when it has written %d of the weights', async (share) => {
    const merge = await mergeStoppedAt(share);
    process.kill(merge.pid, 'SIGKILL');
    expect(await merge.answer).toBe(500);
    expect(await readdir(path.join(stand.dataDir, 'merged'))).toEqual([]);
    expect(await stagingsOfMerges()).toEqual([]);
    expect(await mergedWeights(stand, adapter)).toBe(expected);
  });

  test('cannot write in the middle of a weight: a clear answer, and nothing is left', async () => {
    const merge = await mergeUnderWay(stand, adapter);
    // The system refuses what is beyond it, as a full disk does.
    execFileSync('prlimit', ['--pid', String(merge.pid), `--fsize=${Math.floor(weightBytes / 3) + 5}`]);
    continueProcess(merge.pid);
    expect(await merge.answer).toBe(507);
    expect(await stagingsOfMerges()).toEqual([]);
    expect(await mergedWeights(stand, adapter)).toBe(expected);
  });
});

describe('the registry', () => {
  const restarted = async () => {
    await registry.exited;
    registry = await stand.startRegistry();
  };

  test('when its merge process has written half: that ends, too', async () => {
    const merge = await mergeStoppedAt(0.5);
    registry.signal('SIGKILL');
    await registry.exited;
    continueProcess(merge.pid);
    await eventually('the merge process ends', async () => !(await isAlive(merge.pid)));
    expect(await merge.answer).not.toBe(200);
    expect(await readdir(path.join(stand.dataDir, 'merged'))).toEqual([]);
    await restarted();
    expect(await mergedWeights(stand, adapter)).toBe(expected);
  });

  test.each<[string, Omit<Strike, 'program'>]>([
    ['before it syncs what was merged', { call: 'sync', when: 'before', path: '/\\.staging/merged-' }],
    ['before the model appears', { call: 'rename', when: 'before', path: '/merged/ad_' }],
    ['after the model appeared', { call: 'rename', when: 'after', path: '/merged/ad_' }],
  ])('%s', async (_, strike) => {
    const { struck } = await stand.plan({ program: 'registry/dist/main.js', ...strike });
    const answer = requestMerged();
    await struck();
    expect(await answer).not.toBe(200);
    await restarted();
    const isPublished = strike.when === 'after';
    expect(await readdir(path.join(stand.dataDir, 'merged'))).toEqual(isPublished ? [adapter] : []);
    expect(await mergedWeights(stand, adapter)).toBe(expected);
  });
});
