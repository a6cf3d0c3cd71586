import { beforeEach, expect, test } from 'vitest';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import './emulated-gpu.js';
import { engine } from '../src/binding.js';
import { scope } from '../src/tensor.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('raw');

// cuBLASLt may refuse an algorithm that it has proposed, or propose none.

const cuda = engine.cuda!;

beforeEach(() => {
  delete process.env.EMULATED_GPU_REFUSED_ALGORITHMS;
  delete process.env.EMULATED_GPU_REFUSAL;
  delete process.env.EMULATED_GPU_KNOWN_ALGORITHMS;
  delete process.env.EMULATED_GPU_PRODUCT_MEMORY;
});

/** [1, 2, …] · [1, 2, …]ᵀ, with a depth that no other test of this file has. */
function squareSum(depth: number): number {
  const numbers = Float32Array.from({ length: depth }, (_, index) => index + 1);
  return scope(() => {
    const row = tensorOf(numbers, [1, depth]);
    return toFloat32Array(kernels.matMul(row, row, { transposeB: true }))[0]!;
  });
}

test('where the first algorithms are refused the next one computes, and stays', () => {
  process.env.EMULATED_GPU_REFUSED_ALGORITHMS = '2';
  const before = cuda.statistics();
  expect(squareSum(3)).toBe(14);
  const first = cuda.statistics();
  expect(first).toMatchObject({ fullTrims: before.fullTrims, algorithmQueries: before.algorithmQueries + 1 });
  expect(squareSum(3)).toBe(14);
  const second = cuda.statistics();
  expect(second).toMatchObject({ algorithmQueries: first.algorithmQueries, launches: first.launches + 1 });
});

test('a new shape is one question to cuBLASLt, and no more are asked for it', () => {
  const before = cuda.statistics().algorithmQueries;
  for (let round = 0; round < 3; round++) expect(squareSum(7)).toBe(140);
  expect(cuda.statistics().algorithmQueries).toBe(before + 1);
});

test('the last one needs no workspace, and is asked for when all others were refused', () => {
  process.env.EMULATED_GPU_REFUSED_ALGORITHMS = '3';
  const before = cuda.statistics().algorithmQueries;
  for (let round = 0; round < 3; round++) expect(squareSum(4)).toBe(30);
  expect(cuda.statistics().algorithmQueries).toBe(before + 2);
});

test('only a refusal that may be for want of memory has the pool give its free memory back, once', () => {
  process.env.EMULATED_GPU_REFUSED_ALGORITHMS = '2';
  const trimsOf = (status: number, depth: number) => {
    process.env.EMULATED_GPU_REFUSAL = String(status);
    const { fullTrims } = cuda.statistics();
    expect(squareSum(depth)).toBe((depth * (depth + 1) * (2 * depth + 1)) / 6);
    return cuda.statistics().fullTrims - fullTrims;
  };
  // Allocation failed, execution failed, internal error.
  for (const [index, status] of [3, 13, 14].entries()) expect(trimsOf(status, 20 + index)).toBe(1);
  // Not initialized, invalid value, wrong architecture, not supported.
  for (const [index, status] of [1, 7, 8, 15].entries()) expect(trimsOf(status, 30 + index)).toBe(0);
});

test("where the driver has no memory for a product's kernel, the pool gives it what is free", () => {
  scope(() => void tensorOf(new Float32Array(2 ** 20), [2 ** 20]));
  cuda.synchronize();
  const { freeBytes, currentBytes, totalBytes } = cuda.memory();
  expect(freeBytes).toBeLessThan(totalBytes - currentBytes);
  process.env.EMULATED_GPU_PRODUCT_MEMORY = String(freeBytes + 2 ** 20);
  const before = cuda.statistics();
  expect(squareSum(8)).toBe(204);
  expect(cuda.statistics()).toMatchObject({
    fullTrims: before.fullTrims + 1,
    algorithmQueries: before.algorithmQueries + 1,
  });
});

test('where none is proposed with a workspace, one without it computes', () => {
  process.env.EMULATED_GPU_KNOWN_ALGORITHMS = '0';
  const { fullTrims } = cuda.statistics();
  expect(squareSum(5)).toBe(55);
  expect(cuda.statistics().fullTrims).toBe(fullTrims);
});

test('a product that is refused in every way is named with its status, and the next one computes', () => {
  process.env.EMULATED_GPU_REFUSED_ALGORITHMS = '4';
  expect(() => squareSum(6)).toThrow(
    /product float32 \[1, 6\] · \[6, 1\], batch 1: CUBLAS_STATUS_NOT_SUPPORTED \(15\)/,
  );
  delete process.env.EMULATED_GPU_REFUSED_ALGORITHMS;
  expect(squareSum(6)).toBe(91);
  expect(cuda.failure()).toBeNull();
});
