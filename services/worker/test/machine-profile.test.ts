import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MachineProfile } from '@lorasmith/contracts';
import { pino } from 'pino';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type ChosenEngine, cpuEngine, engineEnvironment } from '../src/device/choose-engine.js';
import { CUDA_RESERVED_BYTES, TENSORFLOW_RESERVED_BYTES } from '../src/device/machine-load.js';
import { profileMachine } from '../src/machine-profile.js';

// A program on PATH replaces the driver's nvidia-smi.

const PROBE = fileURLToPath(new URL('fixtures/probe.mjs', import.meta.url));
const A10G = '0, GPU-8f6b2c1e-5d0a-4a6e-9c3e-1f2d3c4b5a69, NVIDIA A10G, 1500, 23028, 0';
const H100 = '1, GPU-1a2b3c4d-0000-4a6e-9c3e-1f2d3c4b5a69, NVIDIA H100 80GB HBM3, 0, 81559, 0';
const HOST = { memory_bytes: 256e9, base_memory_bytes: 400e6 };

let folder: string;
let dataDir: string;
let warnings: string[];

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-profile-'));
  dataDir = path.join(folder, 'data');
  warnings = [];
  await mkdir(path.join(folder, 'bin'));
  vi.stubEnv('PATH', path.join(folder, 'bin'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

const putGpus = (...lines: string[]) =>
  writeFile(
    path.join(folder, 'bin/nvidia-smi'),
    `#!/bin/sh\n${lines.map((line) => `echo '${line}'\n`).join('')}exit ${lines.length > 0 ? 0 : 9}\n`,
    { mode: 0o755 },
  );

const engineOn = (device: 'gpu' | 'cpu', environment: NodeJS.ProcessEnv): ChosenEngine =>
  device === 'cpu'
    ? cpuEngine(environment)
    : { kind: 'tensorflow', card: null, self_test: null, environment: engineEnvironment('tensorflow', environment) };

const profile = (device: 'gpu' | 'cpu', environment: NodeJS.ProcessEnv = {}) =>
  profileOf(engineOn(device, { ...process.env, ...environment }));

const profileOf = (engine: ChosenEngine, passTokens: number | null = null) =>
  profileMachine({
    passTokens,
    dataDir,
    workerName: 'one',
    engine,
    probeProgram: PROBE,
    log: pino({ level: 'warn' }, { write: (line: string) => void warnings.push(JSON.parse(line).msg) }),
  });

const stored = async () => (await readdir(path.join(dataDir, 'machines'))).length;

test('on a GPU, jobs are planned with its memory minus what other programs hold and tensors cannot use', async () => {
  await putGpus(A10G, H100);
  const found = await profile('gpu');
  expect(found).toMatchObject({
    processor: 'NVIDIA A10G; a processor, for the gpu',
    memory_bytes: (23_028 - 1_500) * 2 ** 20 - TENSORFLOW_RESERVED_BYTES,
    base_memory_bytes: 0,
  });
  expect(Value.Check(MachineProfile, found)).toBe(true);
  expect(await profile('gpu', { CUDA_VISIBLE_DEVICES: '1' })).toMatchObject({
    memory_bytes: 81_559 * 2 ** 20 - TENSORFLOW_RESERVED_BYTES,
  });
  expect(warnings).toEqual([]);
});

test('on the CPU, jobs are planned with the memory of the host, whatever its GPU', async () => {
  await putGpus(A10G);
  expect(await profile('cpu')).toMatchObject(HOST);
  expect(warnings).toEqual([]);
});

test('the tokens of a pass follow from the rates of a GPU, and the setting comes before them', async () => {
  await putGpus(A10G);
  const engine = engineOn('gpu', process.env);
  const slow = await profileOf(engine);
  expect(slow).toMatchObject({ pass_tokens: 1024 });
  expect(await profileOf(engine, 4096)).toEqual({ ...slow, pass_tokens: 4096 });
  expect(await profileOf(cpuEngine(process.env), 512)).toMatchObject({ pass_tokens: 512 });
  // The setting of one start is not stored for the next.
  expect(await profileOf(engine)).toEqual(slow);
});

test('another GPU is measured again, the same one is not', async () => {
  await putGpus(A10G);
  await profile('gpu');
  await profile('gpu');
  expect(await stored()).toBe(1);
  await putGpus(H100);
  expect(await profile('gpu')).toMatchObject({ memory_bytes: 81_559 * 2 ** 20 - TENSORFLOW_RESERVED_BYTES });
  await putGpus(H100.replace('81559', '40960'));
  await profile('gpu');
  expect(await stored()).toBe(3);
});

test('if the driver reports nothing, a warning says that the memory of the host is used, and the driver is queried again', async () => {
  expect(await profile('gpu')).toMatchObject(HOST);
  await putGpus();
  expect(await profile('gpu')).toMatchObject(HOST);
  expect(warnings).toEqual(Array(2).fill(expect.stringContaining('nvidia-smi does not report the memory of the GPU')));
  await putGpus(A10G);
  expect((await profile('gpu'))?.memory_bytes).toBe((23_028 - 1_500) * 2 ** 20 - TENSORFLOW_RESERVED_BYTES);
});

test('on the CUDA engine the driver has said what the card has, and the profile says what is avoided', async () => {
  const card = {
    name: 'NVIDIA L4',
    uuid: 'GPU-1',
    compute_capability: '8.9',
    driver: '550.54.15, CUDA 12.4',
    memory_bytes: 24e9,
  };
  const self_test = {
    tested_at: '2026-11-26T00:00:00.000Z',
    seconds: 9,
    cases: 171,
    failed: [],
    kernels: 'fused' as const,
    avoided_kernels: ['rmsNorm:bfloat16'],
    distrust: null,
  };
  const engine: ChosenEngine = { kind: 'cuda', card, self_test, environment: engineEnvironment('cuda', process.env) };
  const found = await profileOf(engine);
  expect(found).toMatchObject({
    processor: 'NVIDIA L4; a processor, for the gpu without rmsNorm:bfloat16',
    memory_bytes: 24e9 - CUDA_RESERVED_BYTES,
    engine: { kind: 'cuda', card, self_test },
  });
  expect(Value.Check(MachineProfile, found)).toBe(true);
  // The measurements are stored, the engine is what it is now.
  const again = { ...engine, self_test: { ...self_test, seconds: 10 } };
  expect(await profileOf(again)).toEqual({ ...found, engine: { kind: 'cuda', card, self_test: again.self_test } });
  expect(await stored()).toBe(1);
  // Plain ops only have rates of their own.
  const plain = await profileOf({ ...engine, self_test: { ...self_test, kernels: 'raw' } });
  expect(plain?.processor).toBe('NVIDIA L4; a processor, for the gpu with raw kernels');
  expect(await stored()).toBe(2);
  // What a desktop holds now is not there for jobs.
  await putGpus('0, GPU-1, NVIDIA L4, 2000, 23034, 0');
  expect((await profileOf(engine))?.memory_bytes).toBe(24e9 - 2_000 * 2 ** 20 - CUDA_RESERVED_BYTES);
  expect(await stored()).toBe(2);
  // With another driver everything is measured again.
  await profileOf({ ...engine, card: { ...card, driver: '570.86.10, CUDA 12.8' } });
  expect(await stored()).toBe(3);
});

test.each([
  ['7.5', false],
  ['8.0', true],
  ['12.0', true],
  [null, true],
])('with compute capability %s, bfloat16 is measured: %s', async (compute_capability, measured) => {
  const card = { name: 'NVIDIA T4', uuid: 'GPU-1', compute_capability, driver: '550.54.15', memory_bytes: 16e9 };
  const found = await profileOf({ ...engineOn('gpu', process.env), card });
  expect(Value.Check(MachineProfile, found)).toBe(true);
  expect(found!.rates.bfloat16 !== null).toBe(measured);
});
