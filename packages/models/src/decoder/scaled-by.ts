import { cast, constant, multiply, scope, sum, type Tensor } from '@lorasmith/tensor';

/**
 * The product `factor · x`, computed in float32 and in the dtype of x.
 * @param factor a number, or a tensor that is broadcast over x
 */
export function scaledBy(x: Tensor, factor: number | Tensor): Tensor {
  return scope(() => {
    const factors = typeof factor === 'number' ? constant(factor) : factor;
    return cast(multiply(cast(x, 'float32'), factors), x.dtype);
  });
}

/**
 * Rows times a factor each, computed in float32.
 * @param x `[rows, width]`
 * @param factors `[rows, 1]` float32
 * @returns `[rows, width]` in the dtype of x
 */
export function weightedRows(x: Tensor, factors: Tensor): Tensor {
  return scope(() => cast(multiply(cast(x, 'float32'), factors), x.dtype));
}

/**
 * The products of rows with each other: by two of these the gradient of {@link weightedRows} by the factors.
 * @param a `[rows, width]`
 * @param b `[rows, width]`
 * @returns `[rows, 1]` float32
 */
export function rowProducts(a: Tensor, b: Tensor): Tensor {
  return scope(() => sum(multiply(cast(a, 'float32'), cast(b, 'float32')), 1, { keepDims: true }));
}
