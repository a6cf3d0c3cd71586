import type { FloatDType } from '../dtype.js';
import type { CaseTolerance, TestTolerance } from './numeric-case.js';

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
 * Attention, and its gradient, of a head: a number may differ by `absolute` of the root mean square of its head's numbers, or of
 * those at the same positions where these are larger (byPosition).
 *
 * Rounding to bfloat16 moves a number by up to 2⁻⁸ of itself, and by 2⁻⁹·² = 0.0017 in the root mean square. A number here is a sum of up
 * to a thousand terms, a weight or a score's gradient times a vector, and each term has the roundings of a query and a key (which
 * move a score by √2 × 0.0017, and its weight by as much of itself), of the weight or gradient, and of the output in delta, five in all
 * with that of the vector. They are as independent as the terms are, so that their sum differs by √5 × 0.0017 = 2⁻⁸ of the size of the
 * number, if one side has them and the other has not. The largest of a million numbers is 4.9 of these: 0.019. `absolute` is 1.7 times
 * that, since a weight of many terms is not one of many equal terms. `relative` is for the rounding of the result on both sides. A key too
 * few among the last of a thousand exceeds the tolerance five times, a wrong tile ten times (test/self-test).
 *
 * In float32 the same holds with 2⁻²⁴ for 2⁻⁸; `exp` and sums in another order have some units more.
 */
export const ATTENTION: Record<FloatDType, Extract<CaseTolerance, { kind: 'elements' }>> = {
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

/**
 * Whole tensors of fused kernels and of TensorFlow's own ops, in tests. In float32 they differ by the order of sums only. In bfloat16
 * both round their results, and the raw ops round between steps too: a few units of 2⁻⁸ of the largest number.
 */
export const FUSED_AND_PLAIN: Record<FloatDType, TestTolerance> = {
  float32: { kind: 'largest', relative: 1e-5 },
  bfloat16: { kind: 'largest', relative: 4 * 2 ** -8 },
};

/** The same kernels on the same numbers, with others around them. */
export const SAME_BITS: TestTolerance = { kind: 'bits' };
