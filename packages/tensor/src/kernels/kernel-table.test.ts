import { afterEach, expect, test } from 'vitest';
import { scope } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import { FusedAttention } from './fused-attention.js';
import { processorHasAmx } from './fused-library.js';
import { GroupedAttention } from './grouped-attention.js';
import { configureKernels, kernelsFor, kernelsInUse } from './kernel-table.js';
import { fusedMatMul, rawMatMul } from './product.js';
import { fusedRmsNorm, rawRmsNorm } from './rms-norm.js';

afterEach(() => void configureKernels('raw'));

const oneRow = () => {
  const angle = tensorOf(new Float32Array(1), [1, 1]);
  return { lengths: [1], angles: { cosine: angle, sine: angle }, windows: [null] };
};

test("until it is configured, the table has TensorFlow's own ops", () => {
  expect(kernelsInUse()).toBe('tensorflow');
  expect(kernelsFor('float32').rmsNorm).toBe(rawRmsNorm);
});

test('fused kernels are chosen for the dtypes that they compute in', () => {
  expect(configureKernels('fused')).toBe(kernelsInUse());
  expect(kernelsInUse()).not.toBe('tensorflow');
  for (const dtype of ['float32', 'bfloat16'] as const) expect(kernelsFor(dtype).rmsNorm).toBe(fusedRmsNorm);
  expect(kernelsFor('float16').rmsNorm).toBe(rawRmsNorm);
  expect(kernelsFor('float32').matMul).toBe(rawMatMul);
  const hasProducts = kernelsInUse() === 'avx512bf16' && !processorHasAmx;
  expect(kernelsFor('bfloat16').matMul).toBe(hasProducts ? fusedMatMul : rawMatMul);
  expect(configureKernels('raw')).toBeNull();
  expect(kernelsFor('bfloat16').rmsNorm).toBe(rawRmsNorm);
});

test('rows that were laid out keep their attention when the configuration changes', () => {
  scope(() => {
    configureKernels('fused');
    const fused = kernelsFor('float32').batchAttention(oneRow());
    configureKernels('raw');
    expect(fused).toBeInstanceOf(FusedAttention);
    expect(kernelsFor('float32').batchAttention(oneRow())).toBeInstanceOf(GroupedAttention);
  });
});
