import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { SelfTestedCard } from '../device/choose-engine.js';
import { SelfTestError } from './compute-part.js';
import { rememberedSelfTest } from './stored-self-test.js';

// A fixture answers in the place of the engine's processes.

const PROGRAM = fileURLToPath(new URL('../../test/fixtures/self-test.mjs', import.meta.url));
const HOUR_MS = 3_600_000;

let dataDir: string;
/** The time of a start, in milliseconds since 1970. */
let now: () => number;
let tests: number;
let lines: { level: number; msg: string }[];

beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-self-test-'));
  [now, tests, lines] = [Date.now, 0, []];
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

interface Situation {
  faults?: Record<string, string>;
  card?: Partial<SelfTestedCard['card']>;
  digest?: string;
  settings?: NodeJS.ProcessEnv;
  sizes?: 'small' | 'full';
}

const WRONG = { 'matMul, fused': 'wrong' };

const start = ({ faults = {}, card = {}, digest = '0', settings = {}, sizes = 'small' }: Situation = {}) => {
  const described = {
    name: 'NVIDIA Test',
    uuid: 'GPU-1',
    compute_capability: '8.6',
    driver: '570',
    memory_bytes: 24e9,
  };
  const onCard = { PATH: process.env.PATH, FAULTS: JSON.stringify(faults), ...settings };
  return rememberedSelfTest(
    {
      dataDir,
      program: PROGRAM,
      sizes,
      log: pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) }),
      onStart: () => void tests++,
      now: () => now(),
    },
    {
      card: { ...described, ...card },
      installation: { addonFile: 'cuda.node', architectures: ['sm_86'], digest },
      environment: onCard,
    },
  );
};
const files = async () => await readdir(path.join(dataDir, 'machines')).catch(() => []);
const warnings = () => lines.filter(({ level }) => level === 40).map(({ msg }) => msg);

test('a passed test is remembered', async () => {
  const first = await start();
  expect(first).toMatchObject({ self_test: { kernels: 'fused', distrust: null }, retest: null });
  now = () => Date.now() + 1_000 * HOUR_MS;
  expect(await start()).toEqual(first);
  expect(tests).toBe(1);
  expect(lines.at(-1)).toMatchObject({ level: 30, msg: 'the CUDA engine passed its self-test on this GPU before' });
});

test('a failed test is remembered for an hour, with the same message, and says how to repeat it', async () => {
  const first = await start({ faults: WRONG });
  expect(first.self_test.distrust).toMatch(/^wrong on this card: matMul/);
  const { tested_at: testedAt } = first.self_test;
  const [name = ''] = await files();
  const until = new Date(Date.parse(testedAt) + HOUR_MS).toISOString();
  expect(first.retest).toBe(
    `It was tested at ${testedAt}. The first start after ${until} tests it again. To test it at once, delete ${path.join(dataDir, 'machines', name)}.`,
  );
  // Within the hour, even if the cause was mended meanwhile.
  now = () => Date.parse(testedAt) + HOUR_MS - 1;
  expect(await start()).toEqual(first);
  expect(tests).toBe(1);
  expect(lines.at(-1)).toMatchObject({ level: 50, msg: 'the CUDA engine failed its self-test on this GPU before' });
  now = () => Date.parse(testedAt) + HOUR_MS;
  expect((await start()).self_test.distrust).toBeNull();
  expect(tests).toBe(2);
});

test('a failed test is repeated at once when its file is deleted, and when the clock was set back', async () => {
  await start({ faults: WRONG });
  const [name = ''] = await files();
  await rm(path.join(dataDir, 'machines', name));
  await start({ faults: WRONG });
  expect(tests).toBe(2);
  now = () => Date.now() - HOUR_MS;
  await start({ faults: WRONG });
  expect(tests).toBe(3);
});

test.each<[string, Situation]>([
  ['card', { card: { uuid: 'GPU-2' } }],
  ['driver', { card: { driver: '575' } }],
  ['set of kernels', { digest: '1' }],
  ['library folder', { settings: { CUDA_LIBRARY_DIR: '/opt/other' } }],
  ['size of the test', { sizes: 'full' }],
])('another %s is tested at once', async (_, other) => {
  await start({ faults: WRONG });
  expect((await start(other)).self_test.distrust).toBeNull();
  expect(tests).toBe(2);
  // And does not replace the result of the first.
  expect((await start({ faults: WRONG })).self_test.distrust).not.toBeNull();
  expect(tests).toBe(2);
});

test('a damaged file is as good as none', async () => {
  await start();
  const [name = ''] = await files();
  const file = path.join(dataDir, 'machines', name);
  await writeFile(file, (await readFile(file, 'utf8')).slice(0, 40));
  expect((await start()).self_test.distrust).toBeNull();
  expect(tests).toBe(2);
});

test('a test without a result is not remembered', async () => {
  const failing = start({ faults: { start: 'no memory' } });
  await expect(failing).rejects.toThrow(SelfTestError);
  expect(await files()).toEqual([]);
  expect((await start()).self_test.distrust).toBeNull();
});

test('kernels that are avoided are a warning at each start, with what that means and what to do', async () => {
  for (let starts = 0; starts < 2; starts++) await start({ faults: { 'k3, fused': 'wrong', 'k5, fused': 'wrong' } });
  expect(tests).toBe(1);
  expect(warnings()).toEqual(
    Array(2).fill(
      expect.stringMatching(/avoids kernels that are wrong on this GPU: k3, k5\. .*slower.*more memory.*gpu-check/),
    ),
  );
});

test('plain ops only are a warning at each start', async () => {
  for (let starts = 0; starts < 2; starts++) await start({ faults: { 'training step float32, fused': 'wrong' } });
  expect(tests).toBe(1);
  expect(warnings()).toEqual(Array(2).fill(expect.stringMatching(/plain ops only: .*slower.*more memory.*gpu-check/)));
});
