import { expect, test } from 'vitest';
import { runKernelTests, VARIANTS } from '../checks/kernel-tests.mjs';

// The kernels alone, against plain loops in double precision: packages/tensor/native/cuda/test. `npm run test:kernels` shows
// each test.

// Four minutes alone on two cores; in CI beside another suite.
const COMPILES_AND_RUNS_MS = 3_600_000;

test.each([
  ['with its threads in any order, each kernel computes the same bytes, and they are right', VARIANTS.orders],
  ['no kernel leaves its memory, or uses an address that is not aligned', VARIANTS.addresses],
  ['no two threads access the same byte, one of them to write, without a barrier between', VARIANTS.races],
])(
  '%s',
  async (_, variant) => {
    const { passed, output } = await runKernelTests(variant, { env: process.env });
    expect(output).toMatch(/kernel tests: \d\d+ passed, 0 failed/);
    expect(passed).toBe(true);
  },
  COMPILES_AND_RUNS_MS,
);
