import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { engineEnvironment } from '../src/device/choose-engine.js';
import { SelfTestError } from '../src/self-test/compute-part.js';
import { runSelfTest } from '../src/self-test/run-self-test.js';

// The self-test as a worker runs it, on the emulated GPU, with kernels that are broken on purpose.

const PROGRAM = fileURLToPath(new URL('../dist/self-test/self-test-main.js', import.meta.url));
const EMULATED = fileURLToPath(new URL('../../../packages/tensor/native/build/emulated', import.meta.url));

beforeAll(async () => {
  await access(PROGRAM).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  await access(EMULATED).catch(() => expect.fail('The emulated GPU is not compiled: `npm test` compiles it.'));
});

const testCard = (settings: NodeJS.ProcessEnv = {}) =>
  runSelfTest({
    program: PROGRAM,
    environments: {
      card: engineEnvironment('cuda', { ...process.env, CUDA_LIBRARY_DIR: EMULATED, ...settings }),
      cpu: engineEnvironment('cpu', process.env),
    },
    sizes: 'small',
  });

test('an engine that computes what the CPU computes is trusted', async () => {
  const result = await testCard();
  expect(result).toMatchObject({ failed: [], kernels: 'fused', avoided_kernels: [], distrust: null });
  expect(result.cases).toBeGreaterThan(150);
});

test('fused kernels that are broken are named and avoided, and training is right without them', async () => {
  const broken = ['RmsNormBFloat16:skip', 'AddRmsNormFloat32:flip', 'RmsNormGradientBFloat16:wrong'];
  const result = await testCard({ EMULATED_GPU_BREAK: broken.join(',') });
  expect(result.avoided_kernels).toEqual(['addRmsNorm:float32', 'rmsNorm:bfloat16', 'rmsNormGradient:bfloat16']);
  const faultsOf = (kernel: string) => result.failed.filter((failed) => failed.case.startsWith(kernel));
  for (const [kernel, fault] of [
    // Not run at all.
    ['rmsNorm bfloat16', /differs in \d+ of \d+ numbers/],
    // Another last bit each second time.
    ['addRmsNorm float32', /two runs on the card differ/],
    // A single wrong number.
    ['rmsNormGradient bfloat16', /differs in \d+ of \d+ numbers/],
  ] as const) {
    expect(faultsOf(kernel)).not.toEqual([]);
    for (const failed of faultsOf(kernel)) expect(failed.fault).toMatch(fault);
  }
  // The training steps, which were computed without these kernels, are among the cases that did not fail.
  expect(result.distrust).toBeNull();
});

test('a kernel that is right by itself and wrong in training is not found, so plain ops only are trusted', async () => {
  // It leaves its result out once another kernel has run: each case of its own passes.
  const result = await testCard({ EMULATED_GPU_BREAK: 'RmsNormFloat32:skip:CrossEntropyFloat32' });
  expect(result).toMatchObject({ kernels: 'raw', avoided_kernels: [], distrust: null });
  // The steps without fused kernels are among the cases that did not fail.
  expect(result.failed.map((failed) => failed.case)).toEqual(['training step float32']);
});

test('a launch that ends the context fails its own case alone', async () => {
  const result = await testCard({ EMULATED_GPU_FAULT: '900:719' });
  // The fault is in every process at its 900th launch, so that each process fails one case.
  expect(result.failed.length).toBeGreaterThan(0);
  for (const { fault } of result.failed) expect(fault).toContain('CUDA_ERROR_LAUNCH_FAILED (719)');
});

test('kernels that are not there are a reason, not a crash', async () => {
  const empty = await mkdtemp(path.join(tmpdir(), 'lorasmith-no-kernels-'));
  const result = await testCard({ CUDA_KERNEL_DIR: empty });
  await rm(empty, { recursive: true, force: true });
  expect(result.failed).not.toEqual([]);
  for (const { fault } of result.failed) expect(fault).toContain('kernel module');
});

test('an engine that cannot be started has no result, and says why', async () => {
  const testing = testCard({ EMULATED_GPU_DRIVER_VERSION: '11080' });
  await expect(testing).rejects.toThrow(SelfTestError);
  await expect(testing).rejects.toThrow('11.8');
});
