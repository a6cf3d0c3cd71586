import type { CaseTolerance } from '../../packages/tensor/src/numeric-cases/index.js';
import type { ComputedCase } from '../../packages/training/src/self-test.js';

/**
 * The factor by which attention in bfloat16 of TensorFlow's own ops may differ more than two fused ones (ATTENTION in numeric-case.ts). They also round
 * each score before softmax, the gradient of each weight, the weight in a score's gradient, and a block's gradients by keys and
 * values. Weights are largest where scores are, at two standard deviations and more, so that the first of these moves them by √5 × 0.0017:
 * thirteen roundings of 0.0017 for five, √13 / √5 = 1.6 times as much.
 */
const PLAIN_FACTOR = 2;

/** The tolerance of a case where TensorFlow's own ops are one of its sides. */
export function plainTolerance({ subject, tolerance }: ComputedCase): CaseTolerance {
  if (tolerance.kind !== 'elements' || !/^(batchAttention|keyValueCache):bfloat16/.test(subject.name)) return tolerance;
  const { relative, absolute } = tolerance;
  return { ...tolerance, relative: PLAIN_FACTOR * relative, absolute: PLAIN_FACTOR * absolute };
}
