import { fileURLToPath } from 'node:url';
import type { SelfTest } from '@lorasmith/contracts';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { SelfTestError } from '../self-test/compute-part.js';
import { type ChooseEngineOptions, chooseEngine, engineEnvironment } from './choose-engine.js';
import { NoGpuError } from './gpu-faults.js';

// Fixtures answer in the place of the driver and of TensorFlow's GPU build.

const fixture = (name: string) => fileURLToPath(new URL(`../../test/fixtures/${name}`, import.meta.url));
const PASSED: SelfTest = {
  tested_at: '2026-11-26T00:00:00.000Z',
  seconds: 9,
  cases: 171,
  failed: [],
  kernels: 'fused',
  avoided_kernels: [],
  distrust: null,
};

interface Situation extends Partial<Pick<ChooseEngineOptions, 'device' | 'engine' | 'installation'>> {
  capability?: string;
  tested?: SelfTest;
  retest?: string | null;
  /** The self-test has no result, for this reason. */
  untested?: string;
  /** True if TensorFlow's GPU build is installed, and sees the card. */
  tensorflow?: boolean;
  held?: string[];
}

async function choose(situation: Situation) {
  const { capability = '8.6', tested = PASSED, retest = null, untested, ...others } = situation;
  const { tensorflow = false, held = [], ...asked } = others;
  return await chooseEngine({
    device: 'gpu',
    engine: 'auto',
    environment: {
      PATH: process.env.PATH,
      LD_LIBRARY_PATH: '/opt/cuda/lib',
      CAPABILITY: capability,
      ...(tensorflow ? { TENSORFLOW_GPU_DIR: '/opt/tensorflow-gpu' } : {}),
    },
    installation: { addonFile: 'cuda.node', architectures: ['sm_86'], digest: '0' },
    programs: { describeDriver: fixture('driver.mjs'), probeGpu: fixture('tensorflow-probe.mjs') },
    lock: async (uuid) => held.push(uuid),
    selfTest: async () => {
      if (untested !== undefined) throw new SelfTestError(untested);
      return { self_test: tested, retest };
    },
    log: pino({ level: 'silent' }),
    ...asked,
  });
}

const refusal = async (situation: Situation) => {
  const error = await choose(situation).then(
    () => expect.fail('an engine was chosen'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(NoGpuError);
  return (error as NoGpuError).message;
};

test('the CUDA engine is taken where it passed its self-test, and its card is held', async () => {
  const held: string[] = [];
  const chosen = await choose({ held });
  expect(chosen).toMatchObject({
    kind: 'cuda',
    card: { name: 'NVIDIA Test', uuid: 'GPU-1', compute_capability: '8.6', memory_bytes: 24e9 },
    self_test: PASSED,
    environment: { ENGINE: 'cuda', CUDA_DEVICE_ORDER: 'PCI_BUS_ID', LD_LIBRARY_PATH: '/opt/cuda/lib' },
  });
  expect(held).toEqual(['GPU-1']);
});

test("an engine that computes wrong numbers is not used: TensorFlow's is, where it is installed", async () => {
  const tested = { ...PASSED, distrust: 'wrong on this card: matMul bfloat16 (0 differs in 3 of 9 numbers)' };
  const chosen = await choose({ tested, tensorflow: true });
  expect(chosen).toMatchObject({
    kind: 'tensorflow',
    environment: {
      ENGINE: 'tensorflow',
      NVIDIA_TF32_OVERRIDE: '0',
      LD_LIBRARY_PATH: '/opt/tensorflow-gpu/lib:/opt/cuda/lib',
    },
  });
  const message = await refusal({ tested });
  expect(message).toMatch(
    /^The engine cannot be trusted on this GPU\.\n {2}self-test: wrong on this card: matMul bfloat16/,
  );
  // Asked for by name it is not replaced, and not by the CPU either.
  expect(await refusal({ tested, tensorflow: true, engine: 'cuda' })).toContain('self-test: ');
  expect(await refusal({ tested, device: 'auto', engine: 'cuda' }).catch(() => 'no GPU here')).toMatch(
    /self-test: |no GPU/,
  );
});

test('the message of a failed self-test says when it is repeated', async () => {
  const message = await refusal({
    tested: { ...PASSED, distrust: 'wrong' },
    retest: 'To test it at once, delete FILE.',
  });
  expect(message).toContain('self-test: wrong. To test it at once, delete FILE.\n');
});

test('an engine that is trusted with plain ops only is chosen, and says so', async () => {
  const tested = { ...PASSED, kernels: 'raw' as const };
  expect(await choose({ tested })).toMatchObject({ kind: 'cuda', self_test: { kernels: 'raw' } });
});

test('a self-test without a result is no fault of the card: nothing is trained, and the reason is named', async () => {
  const untested = 'it did not end within 900 s';
  expect(await refusal({ untested })).toBe(
    'The engine could not be tested on this GPU.\n  self-test: it did not end within 900 s.\nDEVICE=cpu trains on the CPU instead.',
  );
  expect(await choose({ untested, tensorflow: true })).toMatchObject({ kind: 'tensorflow' });
  expect(
    await refusal({ untested: 'the GPU failed: CUDA_ERROR_SYSTEM_NOT_READY (802): system not yet initialized' }),
  ).toMatch(/\(802\): system not yet initialized\. The driver is not ready\..*nvidia-fabricmanager/);
});

test('a card that is too old for the CUDA engine uses TensorFlow, one that is too new for TensorFlow does not', async () => {
  expect(await choose({ capability: '7.5', tensorflow: true })).toMatchObject({ kind: 'tensorflow' });
  expect(await refusal({ capability: '7.5' })).toMatch(/ {2}card: NVIDIA Test has compute capability 7\.5/);
  expect(await refusal({ capability: '12.0', engine: 'tensorflow', tensorflow: true })).toMatch(
    / {2}card: .*TensorFlow's GPU build is for 6\.0 to 9\.x/,
  );
  expect(await choose({ capability: '12.0', tensorflow: true })).toMatchObject({ kind: 'cuda' });
});

test('TensorFlow can be asked for, and what it lacks is named', async () => {
  expect(await choose({ engine: 'tensorflow', tensorflow: true })).toMatchObject({ kind: 'tensorflow' });
  // Without its GPU build the library computes on the CPU.
  expect(await refusal({ engine: 'tensorflow' })).toContain('library: not found: libcudnn.so.9.');
});

test('without the CUDA engine, the message says how to install it', async () => {
  expect(await refusal({ installation: null })).toMatch(/ {2}installation: .*npm run setup -- --gpu/);
});

test('the environment of the CPU hides every GPU', async () => {
  const chosen = await choose({ device: 'cpu' });
  expect(chosen).toMatchObject({ kind: 'cpu', card: null, self_test: null });
  expect(chosen.environment).toMatchObject({ ENGINE: 'cpu', CUDA_VISIBLE_DEVICES: '-1' });
  expect(engineEnvironment('cuda', { CUDA_DEVICE_ORDER: 'FASTEST_FIRST' }).CUDA_DEVICE_ORDER).toBe('FASTEST_FIRST');
});
