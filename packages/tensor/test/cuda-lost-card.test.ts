import { afterAll, beforeAll, expect, test, vi } from 'vitest';

// The sixth launch of this process does not fit, the ninth one loses the card.
const lostFile = vi.hoisted(() => {
  const file = `/tmp/lorasmith-lost-card-${process.pid}`;
  process.env.EMULATED_GPU_FAULT = '6:701,9:700';
  process.env.EMULATED_GPU_LOST_FILE = file;
  return file;
});

import './emulated-gpu.js';
import { readFileSync, rmSync } from 'node:fs';
import { engine } from '../src/binding.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import { dispose, scope, type Tensor } from '../src/tensor.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('fused');

const cuda = engine.cuda!;
let x: Tensor;
let weight: Tensor;

beforeAll(() => {
  x = tensorOf(Float32Array.of(3, 4), [1, 2]);
  weight = tensorOf(Float32Array.of(1, 1), [2]);
});
afterAll(() => rmSync(lostFile, { force: true }));

const norm = () => kernels.of('float32').rmsNorm(x, weight, 0, 'float32').output;
const product = () => kernels.matMul(x, x, { transposeB: true });
const numbersOf = (make: () => Tensor) => scope(() => [...toFloat32Array(make())]);

test('an error of one launch fails that op, and no other', () => {
  for (let launch = 1; launch <= 5; launch++) expect(numbersOf(product)).toEqual([25]);
  expect(() => numbersOf(norm)).toThrow(
    /LorasmithRmsNorm\(.+kernel RmsNormFloat32: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES \(701\): too many resources/s,
  );
  expect(cuda.failure()).toBeNull();
  expect(numbersOf(product)).toEqual([25]);
});

const FAILURE =
  /the GPU failed: CUDA_ERROR_ILLEGAL_ADDRESS \(700\): an illegal memory access was encountered, noticed while (copying from|waiting for) the GPU; the last kernel enqueued was RmsNormFloat32, but an earlier one may have failed\. To find it, run the job again with CUDA_LAUNCH_BLOCKING=1: /;

test('a lost card fails every op from then on with its first failure, and does not end the process', () => {
  expect(numbersOf(product)).toEqual([25]);
  // The launch itself succeeds: a card reports what happens in a kernel later.
  const lost = norm();
  expect(cuda.failure()).toBeNull();
  expect(() => toFloat32Array(lost)).toThrow(FAILURE);
  const failure = cuda.failure()!;
  expect(failure).toMatch(FAILURE);
  for (const op of [norm, product]) expect(() => numbersOf(op)).toThrow(failure);
  expect(() => numbersOf(() => tensorOf(Float32Array.of(1), [1]))).toThrow(failure);
  expect(() => cuda.synchronize()).toThrow(failure);
  expect(cuda.memory().totalBytes).toBeGreaterThanOrEqual(0);
  dispose([lost, x, weight]);
});

test('a lost card is lost for other processes, too, if the emulation is told so', () => {
  expect(readFileSync(lostFile, 'utf8')).toBe('700');
});
