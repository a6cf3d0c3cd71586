import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CudaDriver, CudaKernel } from '../src/cuda.js';
import { cudaInstallation } from '../src/cuda-installation.js';

const BUILD = fileURLToPath(new URL('../native/build/', import.meta.url));

/** The answer of the addon in a process of its own, without TensorFlow's addon, on an emulated GPU. */
async function startIn(
  env: Record<string, string>,
): Promise<{ driver: CudaDriver; error?: string; kernels?: CudaKernel[] }> {
  const program = `
    const cuda = require(${JSON.stringify(`${BUILD}cuda.node`)});
    const said = { driver: cuda.describe() };
    try { cuda.start(); said.kernels = cuda.loadKernels(); } catch (error) { said.error = error.message; }
    console.log(JSON.stringify(said));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--eval', program], {
    env: { PATH: process.env.PATH, TF_CPP_MIN_LOG_LEVEL: '3', CUDA_LIBRARY_DIR: `${BUILD}emulated`, ...env },
  });
  return JSON.parse(stdout.trim().split('\n').at(-1)!);
}

test('a card that can be used is described and opened', async () => {
  const { driver, error, kernels } = await startIn({ EMULATED_GPU_CAPABILITY: '8.9', EMULATED_GPU_COUNT: '2' });
  expect(error).toBeUndefined();
  expect(driver).toMatchObject({ driverVersion: 12_090, error: null });
  expect(driver.devices.map(({ ordinal, uuid, capability }) => ({ ordinal, uuid, capability }))).toEqual([
    { ordinal: 0, uuid: 'GPU-e0000000-0000-4000-8000-000000000000', capability: [8, 9] },
    { ordinal: 1, uuid: 'GPU-e0000000-0000-4000-8000-000000000001', capability: [8, 9] },
  ]);
  expect(kernels!.filter((kernel) => kernel.error !== null)).toEqual([]);
});

test('CUDA_VISIBLE_DEVICES selects a card by its number or its UUID', async () => {
  for (const CUDA_VISIBLE_DEVICES of ['1', 'GPU-e0000000-0000-4000-8000-000000000001']) {
    const { driver } = await startIn({ CUDA_VISIBLE_DEVICES, EMULATED_GPU_COUNT: '2' });
    expect(driver.devices.map(({ uuid }) => uuid)).toEqual(['GPU-e0000000-0000-4000-8000-000000000001']);
  }
});

const REASONS: { name: string; env: Record<string, string>; error: RegExp; version?: number }[] = [
  {
    name: 'a driver that is too old',
    env: { EMULATED_GPU_DRIVER_VERSION: '11080' },
    error: /^NVIDIA's driver is too old: it has CUDA 11\.8, and at least CUDA 12\.0 is needed \(driver 525 or later\)$/,
    version: 11_080,
  },
  {
    name: 'no card',
    env: { EMULATED_GPU_COUNT: '0' },
    error: /^NVIDIA's driver shows no GPU: CUDA_ERROR_NO_DEVICE \(100\): no CUDA-capable device is detected$/,
  },
  {
    name: 'CUDA_VISIBLE_DEVICES with nonsense',
    env: { CUDA_VISIBLE_DEVICES: 'the big one' },
    error: /CUDA_ERROR_NO_DEVICE \(100\)/,
  },
  {
    name: 'a card that is too old',
    env: { EMULATED_GPU_CAPABILITY: '7.5' },
    error: /^Emulated GPU \(GPU-.+\) has compute capability 7\.5, and at least 8\.0 is needed$/,
  },
  {
    name: 'no cuBLASLt',
    env: { CUDA_LIBRARY_DIR: '/nowhere', LD_PRELOAD: `${BUILD}emulated/libcuda.so.1` },
    error: /^cuBLASLt is not found \(libcublasLt\.so\.12\)$/,
  },
  {
    name: 'a card without memory pools',
    env: { EMULATED_GPU_POOLS: '0' },
    error: /has no memory pools: its driver or virtual GPU does not support cuMemAllocAsync$/,
  },
];

test.each(REASONS)('$name: the reason is given', async ({ env, error: reason, version = 12_090 }) => {
  const { driver, error } = await startIn(env);
  expect(error).toMatch(reason);
  expect(driver.driverVersion).toBe(version);
  // What can be seen without a context is in the description, too.
  if (driver.devices.length === 0) expect(driver.error).toBe(error);
});

describe('kernel modules', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-kernels-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  /**
   * Starts with these files alone, each from native/build/cuda or with a content.
   * @returns what is wrong with the first kernel of each module
   */
  async function startWith(files: Record<string, string | Buffer>, env: Record<string, string> = {}) {
    const kernelDir = await mkdtemp(path.join(folder, 'case-'));
    for (const [file, from] of Object.entries(files)) {
      await mkdir(path.dirname(path.join(kernelDir, file)), { recursive: true });
      if (typeof from === 'string') await copyFile(path.join(BUILD, 'cuda', from), path.join(kernelDir, file));
      else await writeFile(path.join(kernelDir, file), from);
    }
    const { kernels } = await startIn({ CUDA_KERNEL_DIR: kernelDir, ...env });
    return Object.fromEntries(kernels!.toReversed().map(({ module, error }) => [module, error]));
  }

  test.each([
    { capability: '8.7', architecture: 'sm_86' },
    { capability: '10.3', architecture: 'sm_100' },
    { capability: '12.1', architecture: 'sm_120' },
  ])('compute capability $capability runs the machine code of $architecture', async ({ capability, architecture }) => {
    const file = `${architecture}/norm.cubin.gz`;
    const { norm } = await startWith({ [file]: file }, { EMULATED_GPU_CAPABILITY: capability });
    expect(norm).toBeNull();
  });

  test('an installation names the architectures of its kernels, and its digest follows from them', async () => {
    expect(cudaInstallation()?.architectures).toContain('sm_90');
    const kernelDir = path.join(folder, 'of-one');
    await mkdir(path.join(kernelDir, 'sm_90'), { recursive: true });
    expect(cudaInstallation(kernelDir)?.architectures).toEqual([]);
    await copyFile(path.join(BUILD, 'cuda/sm_90/norm.cubin.gz'), path.join(kernelDir, 'sm_90/norm.cubin.gz'));
    expect(cudaInstallation(kernelDir)).toMatchObject({ architectures: ['sm_90'] });
    expect(cudaInstallation(kernelDir)?.digest).not.toBe(cudaInstallation()?.digest);
  });

  test('a later card runs PTX, which a driver of its CUDA version compiles', async () => {
    const file = 'compute_80/norm.ptx.gz';
    const env = { EMULATED_GPU_CAPABILITY: '11.0' };
    expect((await startWith({ [file]: file }, env)).norm).toBeNull();
    expect((await startWith({ [file]: file }, { ...env, EMULATED_GPU_DRIVER_VERSION: '12040' })).norm).toMatch(
      /^kernel module norm does not load \(.+compute_80\/norm\.ptx\.gz\): CUDA_ERROR_UNSUPPORTED_PTX_VERSION \(222\)/,
    );
  });

  test('a module that cannot be used is named, with the reason', async () => {
    const errors = await startWith({
      'sm_90/attention_64.cubin.gz': 'sm_80/attention_64.cubin.gz',
      'sm_90/attention_80.cubin.gz': gzipSync('not a module'),
      'sm_90/attention_96.cubin.gz': 'sm_90/norm.cubin.gz',
    });
    const { norm, attention_64: foreign, attention_80: damaged, attention_96: other } = errors;
    expect(norm).toMatch(/^kernel module norm is missing: there is no .+compute_80\/norm\.ptx\.gz/);
    expect(foreign).toMatch(/^kernel module attention_64 does not load \(.+\): CUDA_ERROR_NO_BINARY_FOR_GPU \(209\)/);
    expect(damaged).toMatch(/^kernel module attention_80 does not load \(.+\): CUDA_ERROR_INVALID_IMAGE \(200\)/);
    expect(other).toMatch(/^kernel module attention_96 has no kernel Attention.+_96: CUDA_ERROR_NOT_FOUND \(500\)/);
  });

  test('a damaged file is named, whatever is wrong with it', async () => {
    const norm = await readFile(path.join(BUILD, 'cuda/sm_90/norm.cubin.gz'));
    const changed = Buffer.from(norm);
    changed[changed.length >> 1]! ^= 1;
    const errors = await startWith({
      'sm_90/norm.cubin.gz': norm.subarray(0, norm.length - 1),
      'sm_90/reduce.cubin.gz': Buffer.alloc(0),
      'sm_90/softmax.cubin.gz': Buffer.from('not compressed'),
      'sm_90/copy.cubin.gz': changed,
      'sm_90/cast.cubin.gz': Buffer.concat([norm, norm]),
      'sm_90/random.cubin.gz': gzipSync(Buffer.alloc(65 * 2 ** 20)),
    });
    for (const name of ['norm', 'reduce', 'softmax', 'copy', 'cast', 'random']) {
      expect(errors[name]).toMatch(
        new RegExp(`^kernel module ${name} cannot be read \\(.+sm_90/${name}.cubin.gz\\): it is damaged`),
      );
    }
    expect(errors.softmax).toMatch(/: incorrect header check$/);
    expect(errors.random).toMatch(/: it is too large$/);
  });

  test('attention that counts on two blocks of a multiprocessor asks for all of its shared memory', async () => {
    const file = path.join(folder, 'attributes');
    await startIn({ EMULATED_GPU_ATTRIBUTES_FILE: file });
    const carveouts = (await readFile(file, 'utf8')).split('\n').filter((line) => line.includes(' 9 '));
    expect(carveouts).toContain('AttentionBFloat16_128 9 100');
    expect(carveouts).toContain('AttentionQueryGradientBFloat16_128 9 100');
    // One block of it needs nearly all.
    expect(carveouts).not.toContain('AttentionKeyAndValueGradientBFloat16_128 9 100');
    expect(carveouts.filter((line) => !line.startsWith('Attention'))).toEqual([]);
  });
});
