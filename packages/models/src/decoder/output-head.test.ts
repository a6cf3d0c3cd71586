import {
  cast,
  chooseKernels,
  dispose,
  type FloatDType,
  keep,
  liveTensorCount,
  observeOps,
  scope,
  type Tensor,
  tensorOf,
} from '@lorasmith/tensor';
import { expect, onTestFinished, test } from 'vitest';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { OutputHead } from './output-head.js';

const kernels = chooseKernels('raw');

const [TOKENS, HIDDEN, VOCAB] = [3, 4, 9];

test.each([
  ['float32', null],
  ['float32', 30],
  ['bfloat16', null],
  ['bfloat16', 30],
] as const)('in %s with the cap %s, one tensor of logits is alive during the product of the gradient', (dtype, cap) => {
  const random = (shape: [number, number], seed: number, as: FloatDType): Tensor =>
    keep(scope(() => cast(tensorOf(normalNumbers(shape[0] * shape[1], seed), shape), as)));
  const weight = random([VOCAB, HIDDEN], 1, dtype);
  const hidden = random([TOKENS, HIDDEN], 2, dtype);
  onTestFinished(() => dispose([weight, hidden]));
  const head = new OutputHead(kernels, weight, 'lm_head', { softcap: cap });
  const backward = () => {
    const computed = head.forward(hidden, [], true);
    const gradient = random([TOKENS, VOCAB], 3, computed.logits.dtype as FloatDType);
    dispose(head.backward(gradient, computed, [], true));
  };
  backward(); // makes the constants it needs
  const before = liveTensorCount();
  const alive: number[] = [];
  observeOps(({ name }) => void (name === 'MatMul' && alive.push(liveTensorCount() - before)));
  onTestFinished(() => observeOps(null));
  backward();
  // That of the logits has its result; that of the gradient has its input and its result.
  expect(alive).toEqual([1, 2]);
  expect(liveTensorCount()).toBe(before);
});
