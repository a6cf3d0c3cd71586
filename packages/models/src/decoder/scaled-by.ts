import { cast, constant, multiply, scope, type Tensor } from '@lorasmith/tensor';

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
