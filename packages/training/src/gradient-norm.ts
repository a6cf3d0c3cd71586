import { multiply, scope, square, sum, type Tensor, tensorOf, toNumber } from '@lorasmith/tensor';

/** Euclidean norm of a vector. */
export function normOf(vector: Tensor): number {
  return Math.sqrt(scope(() => toNumber(sum(square(vector), 'all'))));
}

/**
 * What to multiply a gradient with so that its norm is at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ has it.
 * @param maxNorm null: never clip
 */
export function clippingFactor(norm: number, maxNorm: number | null): number {
  return maxNorm === null ? 1 : Math.min(1, maxNorm / (norm + 1e-6));
}

/** A vector times a number that changes from step to step. */
export function scaled(vector: Tensor, factor: number): Tensor {
  return scope(() => multiply(vector, tensorOf(Float32Array.of(factor), [])));
}
