import { beforeEach, expect, test } from 'vitest';
import './emulated-gpu.js';
import { engine } from '../src/binding.js';
import { matMul } from '../src/matrix.js';
import { scope } from '../src/tensor.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';

// cuBLASLt may refuse an algorithm that it has proposed, or propose none.

const cuda = engine.cuda!;

beforeEach(() => {
  delete process.env.EMULATED_GPU_REFUSED_ALGORITHMS;
  delete process.env.EMULATED_GPU_KNOWN_ALGORITHMS;
});

/** [1, 2, …] · [1, 2, …]ᵀ, with a depth that no other test of this file has. */
function squareSum(depth: number): number {
  const numbers = Float32Array.from({ length: depth }, (_, index) => index + 1);
  return scope(() => {
    const row = tensorOf(numbers, [1, depth]);
    return toFloat32Array(matMul(row, row, { transposeB: true }))[0]!;
  });
}

test('where the first algorithms are refused the next one computes, and stays', () => {
  process.env.EMULATED_GPU_REFUSED_ALGORITHMS = '2';
  const before = cuda.statistics();
  expect(squareSum(3)).toBe(14);
  const first = cuda.statistics();
  expect(first.fullTrims).toBe(before.fullTrims + 1);
  expect(squareSum(3)).toBe(14);
  const second = cuda.statistics();
  expect(second).toMatchObject({ fullTrims: first.fullTrims, launches: first.launches + 1 });
});

test('the last one needs no workspace', () => {
  process.env.EMULATED_GPU_REFUSED_ALGORITHMS = '3';
  expect(squareSum(4)).toBe(30);
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
