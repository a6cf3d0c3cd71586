import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';

// native/cuda/test/driver: a program that calls the emulated driver as host code does, one case in each process.

const NATIVE = fileURLToPath(new URL('../native/', import.meta.url));
const run = promisify(execFile);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-driver-'));
  const module = await readFile(path.join(NATIVE, 'build/cuda/sm_90/norm.cubin.gz'));
  await writeFile(path.join(folder, 'norm.cubin'), gunzipSync(module));
  const sources = ['cuda/test/driver/driver_test.cc', 'cuda/host/driver.cc'];
  await run('g++', ['-std=c++17', '-I.', '-pthread', ...sources, '-ldl', '-o', path.join(folder, 'driver_test')], {
    cwd: NATIVE,
  });
});
afterAll(() => rm(folder, { recursive: true }));

test.each([
  { case: 'result' },
  { case: 'result', order: '1' },
  { case: 'result', order: '7' },
  { case: 'parameters' },
  { case: 'launch limits' },
  { case: 'no context' },
  { case: 'memory' },
  { case: 'late upload' },
  { case: 'write beyond an allocation', says: 'emulated GPU: a write beyond 128 bytes' },
  {
    case: 'host memory in a kernel',
    says: "emulated GPU: kernel RmsNormFloat32: argument 5 does not point into the card's memory",
  },
  {
    case: 'freed memory in a kernel',
    says: "emulated GPU: kernel RmsNormFloat32: argument 0 does not point into the card's memory",
  },
  { case: 'skip', broken: 'skip' },
  { case: 'flip', broken: 'flip' },
  { case: 'wrong', broken: 'wrong' },
  { case: 'wrong after a kernel', broken: 'wrong:RmsNormFloat32' },
  { case: 'wrong after a kernel that is never launched', broken: 'wrong:AddRmsNormFloat32' },
])('$case', async ({ case: name, order = '0', says = '', broken = '' }) => {
  const { stdout, stderr } = await run(path.join(folder, 'driver_test'), [name], {
    env: {
      CUDA_LIBRARY_DIR: path.join(NATIVE, 'build/emulated'),
      MODULE: path.join(folder, 'norm.cubin'),
      EMULATED_GPU_ORDER: order,
      ...(broken === '' ? {} : { EMULATED_GPU_BREAK: `RmsNormFloat32:${broken}` }),
    },
  });
  expect({ stdout: stdout.trim(), stderr: stderr.trim() }).toEqual({ stdout: 'as expected', stderr: says });
});
