import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MachineLoad } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { afterEach, expect, test } from 'vitest';
import { busyShare, gpuInUse, type LoadWatch, parseGpus, readGpus, watchLoad } from './machine-load.js';

const UUID = 'GPU-8f6b2c1e-5d0a-4a6e-9c3e-1f2d3c4b5a69';
let watch: LoadWatch | undefined;
let folder: string | undefined;
afterEach(async () => {
  watch?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

const reading = async (): Promise<MachineLoad> => {
  await expect.poll(() => watch!.latest(), { timeout: 20_000 }).not.toBeNull();
  return watch!.latest()!;
};

test('the processor and the memory of a machine without a GPU are read', async () => {
  watch = watchLoad({ card: null, everyMs: 1 });
  expect(watch.latest()).toBeNull();
  const load = await reading();
  expect([...Value.Errors(MachineLoad, load)]).toEqual([]);
  expect(load.card).toBeNull();
  expect(load.memory_used_bytes).toBeGreaterThan(0);
  expect(load.memory_used_bytes).toBeLessThanOrEqual(load.memory_total_bytes);
  await expect.poll(() => watch!.latest()!.read_at, { timeout: 20_000 }).not.toBe(load.read_at);
});

// Where tests run there is no driver; a program stands in for its nvidia-smi.
test.each([
  [UUID, { busy: 0.37, memory_used_bytes: 2 ** 30, memory_total_bytes: 23_028 * 2 ** 20 }],
  ['GPU-of-another-host', null],
])('the load of the GPU %s is that of the same one', async (uuid, card) => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-load-'));
  const program = path.join(folder, 'nvidia-smi');
  await writeFile(program, `#!/bin/sh\necho "0, ${UUID}, NVIDIA A10G, 1024, 23028, 37"\n`, { mode: 0o755 });
  watch = watchLoad({ card: { uuid }, everyMs: 1, gpus: () => readGpus(program) });
  expect((await reading()).card).toEqual(card);
});

test.each([
  [{ busy: 10, all: 100 }, { busy: 60, all: 200 }, 0.5],
  [{ busy: 10, all: 100 }, { busy: 10, all: 100 }, 0],
  [{ busy: 10, all: 100 }, { busy: 5, all: 200 }, 0],
])('from %j to %j, cores are busy for a share of %d', (before, now, share) => {
  expect(busyShare(before, now)).toBe(share);
});

const A10G = '0, GPU-8f6b2c1e-5d0a-4a6e-9c3e-1f2d3c4b5a69, NVIDIA A10G, 1024, 23028, 37';
const H100 = '1, GPU-1a2b3c4d-0000-4a6e-9c3e-1f2d3c4b5a69, NVIDIA H100 80GB HBM3, 0, 81559, 0';

test('what the driver says of GPUs is read; what it does not say is left out', () => {
  const withMig = '1, GPU-1a2b3c4d-0000-4a6e-9c3e-1f2d3c4b5a69, NVIDIA H100 80GB HBM3, 0, 81559, [N/A]';
  expect(parseGpus(`${A10G}\n${withMig}\nNo devices were found\n\n`)).toEqual([
    {
      index: '0',
      uuid: 'GPU-8f6b2c1e-5d0a-4a6e-9c3e-1f2d3c4b5a69',
      name: 'NVIDIA A10G',
      usedBytes: 2 ** 30,
      totalBytes: 23_028 * 2 ** 20,
      busyRatio: 0.37,
    },
  ]);
});

test('the GPU in use is the first that is made visible, by number or by UUID', () => {
  const gpus = parseGpus(`${A10G}\n${H100}\n`);
  const [a10g, h100] = gpus;
  expect(gpuInUse(gpus)).toBe(a10g);
  expect(gpuInUse(gpus, '')).toBe(a10g);
  expect(gpuInUse(gpus, '1,0')).toBe(h100);
  expect(gpuInUse(gpus, 'GPU-1a2b')).toBe(h100);
  expect(gpuInUse(gpus, '2')).toBeUndefined();
  expect(gpuInUse(gpus, 'MIG-1a2b3c4d')).toBeUndefined();
  expect(gpuInUse([], '0')).toBeUndefined();
});

test("the driver's program is asked, and missed without harm", async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-gpus-'));
  const program = path.join(folder, 'nvidia-smi');
  const script = `#!/bin/sh\n[ "$2" = --format=csv,noheader,nounits ] && echo "${A10G}"\n`;
  await writeFile(program, script, { mode: 0o755 });
  expect(await readGpus(program)).toEqual(parseGpus(A10G));
  expect(await readGpus(path.join(folder, 'not-there'))).toEqual([]);
});
