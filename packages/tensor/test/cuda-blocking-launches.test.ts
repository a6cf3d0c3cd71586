import { expect, test, vi } from 'vitest';

// Launches wait for their kernels. The third launch of this process loses the card.
vi.hoisted(() => {
  process.env.CUDA_LAUNCH_BLOCKING = '1';
  process.env.EMULATED_GPU_FAULT = '3:700';
});

import './emulated-gpu.js';
import { engine } from '../src/binding.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('fused');

test('with CUDA_LAUNCH_BLOCKING=1, the failure of a card has the kernel that failed', () => {
  const x = tensorOf(Float32Array.of(3, 4), [1, 2]);
  const weight = tensorOf(Float32Array.of(1, 1), [2]);
  for (let launch = 1; launch <= 2; launch++) {
    expect([...toFloat32Array(kernels.matMul(x, x, { transposeB: true }))]).toEqual([25]);
  }
  expect(() => kernels.of('float32').rmsNorm(x, weight, 0, 'float32')).toThrow(/RmsNormFloat32/);
  expect(engine.cuda!.failure()).toMatch(
    /^the GPU failed: CUDA_ERROR_ILLEGAL_ADDRESS \(700\): .+, noticed while launching kernel RmsNormFloat32$/,
  );
});
