import {
  add,
  cast,
  constant,
  type FloatDType,
  mean,
  multiply,
  reciprocalSquareRoot,
  scope,
  square,
  subtract,
  type Tensor,
} from '@lorasmith/tensor';

/**
 * Root mean square norm (Zhang & Sennrich 2019, arXiv:1910.07467): `y = x / rms(x) · w`, in float32.
 * @param x `[tokens, hidden]` float32
 * @param weight `[hidden]` float32
 * @returns output `[tokens, hidden]` in `dtype`; inverseRms `[tokens, 1]` for the gradient
 */
export function rmsNorm(
  x: Tensor,
  weight: Tensor,
  epsilon: number,
  dtype: FloatDType,
): { output: Tensor; inverseRms: Tensor } {
  return scope(() => {
    const meanSquare = mean(square(x), -1, { keepDims: true }); // [tokens, 1]
    const inverseRms = reciprocalSquareRoot(add(meanSquare, constant(epsilon)));
    const normalised = multiply(x, inverseRms);
    return { output: cast(multiply(normalised, weight), dtype), inverseRms };
  });
}

/**
 * Gradient of {@link rmsNorm} by x: with `n = x / rms(x)` and `g = gradient · w`, it is `(g - n · mean(g · n)) / rms(x)`.
 * @param gradient `[tokens, hidden]`
 * @returns `[tokens, hidden]` float32
 */
export function rmsNormGradient(gradient: Tensor, x: Tensor, weight: Tensor, inverseRms: Tensor): Tensor {
  return scope(() => {
    const normalised = multiply(x, inverseRms);
    const weighted = multiply(cast(gradient, 'float32'), weight);
    const projection = mean(multiply(weighted, normalised), -1, { keepDims: true }); // [tokens, 1]
    return multiply(subtract(weighted, multiply(normalised, projection)), inverseRms);
  });
}
