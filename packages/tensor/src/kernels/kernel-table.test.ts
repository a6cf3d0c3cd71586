import { expect, test } from 'vitest';
import { observeOps } from '../execute.js';
import { fill } from '../layout.js';
import { scope } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import { FusedAttention } from './fused-attention.js';
import { GroupedAttention } from './grouped-attention.js';
import { chooseKernels, type KernelSet } from './kernel-table.js';
import { fusedMatMul, rawMatMul } from './product.js';
import { fusedRmsNorm, rawRmsNorm } from './rms-norm.js';

const oneRow = () => {
  const angle = tensorOf(new Float32Array(2), [1, 2]);
  return { lengths: [1], heads: 1, angles: { cosine: angle, sine: angle }, windows: [null] };
};

test("the raw kernels are TensorFlow's own ops", () => {
  const kernels = chooseKernels('raw');
  expect(kernels.library).toBe('tensorflow');
  expect(kernels.of('float32').rmsNorm).toBe(rawRmsNorm);
});

test('fused kernels are chosen for the dtypes that they compute in', () => {
  const kernels = chooseKernels('fused');
  expect(kernels.library).not.toBe('tensorflow');
  for (const dtype of ['float32', 'bfloat16'] as const) expect(kernels.of(dtype).rmsNorm).toBe(fusedRmsNorm);
  expect(kernels.of('float16').rmsNorm).toBe(rawRmsNorm);
  const hasFloat32 = ['avx512', 'avx512bf16'].includes(kernels.library);
  expect(kernels.of('float32').matMul).toBe(hasFloat32 ? fusedMatMul : rawMatMul);
  const hasBFloat16 = kernels.library === 'avx512bf16';
  expect(kernels.of('bfloat16').matMul).toBe(hasBFloat16 ? fusedMatMul : rawMatMul);
});

test('a fused kernel that is avoided is replaced in its dtype alone', () => {
  const kernels = chooseKernels('fused', { avoid: ['rmsNorm:bfloat16', 'batchAttention:float32'] });
  expect(kernels.of('bfloat16').rmsNorm).toBe(rawRmsNorm);
  expect(kernels.of('float32').rmsNorm).toBe(fusedRmsNorm);
  scope(() => {
    expect(kernels.of('float32').batchAttention(oneRow())).toBeInstanceOf(GroupedAttention);
    expect(kernels.of('bfloat16').batchAttention(oneRow())).toBeInstanceOf(FusedAttention);
  });
  expect(chooseKernels('fused').of('bfloat16').rmsNorm).toBe(fusedRmsNorm);
});

test('attention that is avoided at one head size runs plain at those that share its compiled kernel', () => {
  const opsAt = (kernels: KernelSet, headDim: number) => {
    const ops: string[] = [];
    scope(() => {
      const half = tensorOf(new Float32Array(headDim / 2), [1, headDim / 2]);
      const attention = kernels.of('float32').batchAttention({
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
  const kernels = chooseKernels('fused', { avoid: ['batchAttention:float32:80'] });
  expect(opsAt(kernels, 80)).not.toContain('LorasmithAttention');
  expect(opsAt(kernels, 72)).not.toContain('LorasmithAttention');
  for (const headDim of [64, 96]) {
    expect(opsAt(kernels, headDim)).toEqual(
      expect.arrayContaining(['LorasmithAttention', 'LorasmithAttentionGradient']),
    );
  }
});

test('kernels of one process are beside each other', () => {
  scope(() => {
    const fused = chooseKernels('fused').of('float32').batchAttention(oneRow());
    expect(fused).toBeInstanceOf(FusedAttention);
    expect(chooseKernels('raw').of('float32').batchAttention(oneRow())).toBeInstanceOf(GroupedAttention);
  });
});
