import { execFileSync } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../../packages/weight-files/src/index.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, type Strike, startStand } from './stand/fault-stand.js';
import { BASE_MODEL } from './stand/jobs-of-the-suite.js';
import {
  GGUF,
  mergedWeights,
  mergeStoppedAt,
  mergeUnderWay,
  requestMerged,
  SAFETENSORS,
  stagingsOfMerges,
} from './stand/merging.js';
import { continueProcess, isAlive } from './stand/processes.js';

// The merge process or the registry dies at each point of a merge, or of an export as GGUF: while it reads, merges, writes and
// syncs, and around the rename that publishes. Nothing incomplete is served, nothing is left, and the next request makes the
// same model.

const REFERENCE = path.join(import.meta.dirname, '../fixtures/reference/llama-tied');
/** The base is widened to this, to 113 MB, so that merging takes long enough to be interrupted. */
const INTERMEDIATE_SIZE = 65_536;

let folder: string;
let stand: FaultStand;
let registry: Part;
let adapter: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-merge-killed-'));
  const modelsDir = path.join(folder, 'models');
  await cp(inject('modelsDir'), modelsDir, { recursive: true });
  await widen(path.join(modelsDir, BASE_MODEL));
  stand = await startStand({ modelsDir });
  registry = await stand.startRegistry();
  await stand.startApi();
  const source = { folder: path.join(REFERENCE, 'adapter_trained') };
  ({ id: adapter } = await stand.client.importAdapter(source, { base_model: BASE_MODEL }));
});
afterAll(async () => {
  await stand?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Gives a base model a larger MLP, of other numbers. */
async function widen(model: string): Promise<void> {
  const configFile = path.join(model, 'config.json');
  const config = JSON.parse(await readFile(configFile, 'utf8')) as { intermediate_size: number };
  await writeFile(configFile, JSON.stringify({ ...config, intermediate_size: INTERMEDIATE_SIZE }));
  const file = path.join(model, 'model.safetensors');
  const weights = await openSafetensors(file);
  const numbers = Buffer.from(Float32Array.of(0.5, -0.25, 0.125, 1, -2, 3, -4).buffer);
  const tensors = [...weights.tensors.values()].map(({ name, dtype, shape }): TensorToWrite => {
    if (!name.includes('.mlp.')) return { name, dtype, shape, data: () => weights.read(name) };
    const wide = shape.map((size) => (size === config.intermediate_size ? INTERMEDIATE_SIZE : size));
    return { name, dtype, shape: wide, data: Buffer.alloc(4 * wide[0]! * wide[1]!, numbers) };
  });
  await writeSafetensors(file, tensors);
  await weights.close();
}

const merged = () => readdir(path.join(stand.dataDir, 'merged'));

describe.each([
  ['safetensors', SAFETENSORS],
  ['GGUF', GGUF],
])('merged, as %s', (_, form) => {
  let expected: string;
  let weightBytes: number;

  beforeAll(async () => {
    expected = await mergedWeights(stand, adapter, form);
    const file = path.join(stand.dataDir, 'merged', form.bundle(adapter), form.weightsFile(adapter));
    weightBytes = (await stat(file)).size;
  });
  beforeEach(async () => {
    // The cache finds that its model is missing, and makes it again.
    for (const bundle of await merged()) await rm(path.join(stand.dataDir, 'merged', bundle), { recursive: true });
    // What a registry that was killed leaves is kept until it is old.
    for (const name of await stagingsOfMerges(stand))
      await rm(path.join(stand.dataDir, '.staging', name), { recursive: true });
  });

  describe('the merge process', () => {
    test.each<[string, Omit<Strike, 'program'>]>([
      [
        'before it reads the weights',
        { call: 'open', when: 'before', path: 'tiny-llama/model\\.safetensors$', skip: 1 },
      ],
      ['before it merges', { call: 'open', when: 'after', path: '/\\.staging/merged-' }],
      ['before it syncs', { call: 'sync', when: 'before', path: '/\\.staging/merged-' }],
      ['after it has synced', { call: 'sync', when: 'after', path: '/\\.staging/merged-' }],
    ])('%s', async (_, strike) => {
      const { struck } = await stand.plan({ program: 'merging/merge-child-main.js', ...strike });
      const answer = requestMerged(stand, adapter, form);
      await struck();
      expect(await answer).toBe(500);
      expect(await merged()).toEqual([]);
      expect(await stagingsOfMerges(stand)).toEqual([]);
      expect(await mergedWeights(stand, adapter, form)).toBe(expected);
    });

    test.each([0.1, 0.6])('the merge process is killed when it has written %d of the weights', async (share) => {
      const merge = await mergeStoppedAt(stand, { adapter, form, share, weightBytes });
      process.kill(merge.pid, 'SIGKILL');
      expect(await merge.answer).toBe(500);
      expect(await merged()).toEqual([]);
      expect(await stagingsOfMerges(stand)).toEqual([]);
      expect(await mergedWeights(stand, adapter, form)).toBe(expected);
    });

    test('cannot write in the middle of a weight: a clear answer, and nothing is left', async () => {
      const merge = await mergeUnderWay(stand, adapter, form);
      // The system refuses what is beyond it, as a full disk does.
      execFileSync('prlimit', ['--pid', String(merge.pid), `--fsize=${Math.floor(weightBytes / 3) + 5}`]);
      continueProcess(merge.pid);
      expect(await merge.answer).toBe(507);
      expect(await stagingsOfMerges(stand)).toEqual([]);
      expect(await mergedWeights(stand, adapter, form)).toBe(expected);
    });
  });

  describe('the registry', () => {
    const restarted = async () => {
      await registry.exited;
      registry = await stand.startRegistry();
    };

    test('the registry is killed when its merge process has written half: that ends, too', async () => {
      const merge = await mergeStoppedAt(stand, { adapter, form, share: 0.5, weightBytes });
      registry.signal('SIGKILL');
      await registry.exited;
      continueProcess(merge.pid);
      await eventually('the merge process ends', async () => !(await isAlive(merge.pid)));
      expect(await merge.answer).not.toBe(200);
      expect(await merged()).toEqual([]);
      await restarted();
      expect(await mergedWeights(stand, adapter, form)).toBe(expected);
    });

    test.each<[string, Omit<Strike, 'program'>]>([
      ['before it syncs what was merged', { call: 'sync', when: 'before', path: '/\\.staging/merged-' }],
      ['before the model appears', { call: 'rename', when: 'before', path: '/merged/ad_' }],
      ['after the model appeared', { call: 'rename', when: 'after', path: '/merged/ad_' }],
    ])('%s', async (_, strike) => {
      const { struck } = await stand.plan({ program: 'registry/dist/main.js', ...strike });
      const answer = requestMerged(stand, adapter, form);
      await struck();
      expect(await answer).not.toBe(200);
      await restarted();
      expect(await merged()).toEqual(strike.when === 'after' ? [form.bundle(adapter)] : []);
      expect(await mergedWeights(stand, adapter, form)).toBe(expected);
    });
  });
});
