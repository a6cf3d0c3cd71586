import { afterEach, expect, test } from 'vitest';
import { observeOps } from '../execute.js';
import { fill } from '../layout.js';
import { scope } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import { FusedAttention } from './fused-attention.js';
import { GroupedAttention } from './grouped-attention.js';
import { configureKernels, kernelsFor, kernelsInUse } from './kernel-table.js';
import { fusedMatMul, rawMatMul } from './product.js';
import { fusedRmsNorm, rawRmsNorm } from './rms-norm.js';

afterEach(() => void configureKernels('raw'));

const oneRow = () => {
  const angle = tensorOf(new Float32Array(2), [1, 2]);
  return { lengths: [1], heads: 1, angles: { cosine: angle, sine: angle }, windows: [null] };
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
  const hasFloat32 = ['avx512', 'avx512bf16'].includes(kernelsInUse());
  expect(kernelsFor('float32').matMul).toBe(hasFloat32 ? fusedMatMul : rawMatMul);
  const hasBFloat16 = kernelsInUse() === 'avx512bf16';
  expect(kernelsFor('bfloat16').matMul).toBe(hasBFloat16 ? fusedMatMul : rawMatMul);
  expect(configureKernels('raw')).toBeNull();
  expect(kernelsFor('bfloat16').rmsNorm).toBe(rawRmsNorm);
});

test('a fused kernel that is avoided is replaced in its dtype alone', () => {
  configureKernels('fused', { avoid: ['rmsNorm:bfloat16', 'batchAttention:float32'] });
  expect(kernelsFor('bfloat16').rmsNorm).toBe(rawRmsNorm);
  expect(kernelsFor('float32').rmsNorm).toBe(fusedRmsNorm);
  scope(() => {
    expect(kernelsFor('float32').batchAttention(oneRow())).toBeInstanceOf(GroupedAttention);
    expect(kernelsFor('bfloat16').batchAttention(oneRow())).toBeInstanceOf(FusedAttention);
  });
  configureKernels('fused');
  expect(kernelsFor('bfloat16').rmsNorm).toBe(fusedRmsNorm);
});

test('attention that is avoided at one head size runs plain at those that share its compiled kernel', () => {
  const opsAt = (headDim: number) => {
    const ops: string[] = [];
    scope(() => {
      const half = tensorOf(new Float32Array(headDim / 2), [1, headDim / 2]);
      const attention = kernelsFor('float32').batchAttention({
        lengths: [1],
        heads: 1,
        angles: { cosine: half, sine: half },
        windows: [null],
      });
      const settings = { heads: 1, keyValueHeads: 1, headDim, scale: 1, window: null, softcap: null };
      const qkv = fill([1, 3 * headDim], 0.5);
      observeOps(({ name }) => ops.push(name));
      const { output, saved } = attention.forward(qkv, settings, true);
      attention.backward(output, saved!, settings);
      observeOps(null);
    });
    return ops;
  };
  configureKernels('fused', { avoid: ['batchAttention:float32:80'] });
  expect(opsAt(80)).not.toContain('LorasmithAttention');
  expect(opsAt(72)).not.toContain('LorasmithAttention');
  for (const headDim of [64, 96]) {
    expect(opsAt(headDim)).toEqual(expect.arrayContaining(['LorasmithAttention', 'LorasmithAttentionGradient']));
  }
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
