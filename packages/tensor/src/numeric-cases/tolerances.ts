import type { FloatDType } from '../dtype.js';
import type { CaseTolerance } from './numeric-case.js';

// How far card and CPU may differ. A number may differ by `relative` of itself plus `absolute` of the root mean square of its
// tensor. The first is for the rounding of the result, the second for that of the terms of a sum, which may cancel.

/** Moving, comparing and counting have one right result. */
export const EXACT: CaseTolerance = { kind: 'elements', relative: 0, absolute: 0 };

/**
 * One operation on each number. Both sides compute in float32, with approximations of `exp`, `tanh` and the like that are
 * right to a few units of the last place (2⁻²³). In bfloat16 both round a nearly equal number, which next to the
 * middle between two falls on either side: one unit of its last place, 2⁻⁷ of a number at most.
 */
export const SINGLE_OP: Record<FloatDType, CaseTolerance> = {
  float32: { kind: 'elements', relative: 2 ** -18, absolute: 2 ** -20 },
  bfloat16: { kind: 'elements', relative: 2 ** -7, absolute: 2 ** -20 },
};

/**
 * Sums of products, in another order on each side. The rounding of n terms grows with √n: 2⁻²⁴ × √4096 = 2⁻¹⁸ of the
 * root mean square for one standard deviation, and some tens of thousands of numbers reach 4.5 of these. TF32,
 * whose products are right to 2⁻¹¹, would exceed it more than tenfold.
 */
export const SUM: Record<FloatDType, CaseTolerance> = {
  float32: { kind: 'elements', relative: 2 ** -17, absolute: 2 ** -15 },
  bfloat16: { kind: 'elements', relative: 2 ** -7, absolute: 2 ** -15 },
};

/**
 * Softmax, and a scatter that adds slices: in bfloat16 TensorFlow's kernels for the CPU round each exponential, sum and addition
 * to it, a few times 2⁻⁹ of what it is; the card computes them in float32.
 */
export const ROUNDED_IN_STEPS: Record<FloatDType, CaseTolerance> = {
  float32: SUM.float32,
  bfloat16: { kind: 'elements', relative: 2 ** -5, absolute: 2 ** -6 },
};

/**
 * A product that is added to what is there: rounded once, or, where a kernel does it in two steps, twice, first the product
 * by 2⁻⁹ of itself. What is there may cancel most of it.
 */
export const ADDED_PRODUCT: Record<FloatDType, CaseTolerance> = {
  float32: SUM.float32,
  bfloat16: { kind: 'elements', relative: 2 ** -7, absolute: 2 ** -6 },
};

/**
 * Attention, and its gradient: in bfloat16 queries, keys, weights and the gradients of scores are rounded on the way, each by
 * up to 2⁻⁹ of itself, and the two sides need not round the same intermediate numbers.
 */
export const ATTENTION: Record<FloatDType, CaseTolerance> = {
  float32: { kind: 'elements', relative: 2 ** -15, absolute: 2 ** -14 },
  bfloat16: { kind: 'elements', relative: 2 ** -6, absolute: 2 ** -5 },
};

/**
 * A whole training step: as a vector, the gradient may differ by this share of its length. In bfloat16 each of some thirty
 * roundings on the way through a layer and back moves it by up to 2⁻⁹, in directions that are nearly independent; fused
 * and plain kernels of the CPU differ by 0.003. In float32 they differ by 3 × 10⁻⁷, and TF32 would exceed the limit.
 */
export const TRAINING_STEP: Record<FloatDType, CaseTolerance> = {
  float32: { kind: 'vector', relative: 2 ** -17 },
  bfloat16: { kind: 'vector', relative: 2 ** -6 },
};
