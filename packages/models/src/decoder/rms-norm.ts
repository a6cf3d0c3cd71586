import {
  add,
  alias,
  cast,
  constant,
  type FloatDType,
  fill,
  fusedAddRmsNorm,
  fusedOpsEnabled,
  fusedRmsNorm,
  fusedRmsNormGradient,
  mean,
  multiply,
  reciprocalSquareRoot,
  scope,
  square,
  subtract,
  type Tensor,
} from '@lorasmith/tensor';

export interface Normed {
  /** `[tokens, hidden]` in the model's dtype */
  output: Tensor;
  /** `[tokens, 1]` float32, for the gradient */
  inverseRms: Tensor;
}

/**
 * Root mean square norm (Zhang & Sennrich 2019, arXiv:1910.07467): `y = x / rms(x) · w`, in float32.
 * @param x `[tokens, hidden]` float32
 * @param weight `[hidden]` float32
 */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number, dtype: FloatDType): Normed {
  if (fusedOpsEnabled()) {
    const [output, inverseRms] = fusedRmsNorm(x, weight, epsilon, dtype);
    return { output, inverseRms };
  }
  return scope(() => {
    const meanSquare = mean(square(x), -1, { keepDims: true }); // [tokens, 1]
    const inverseRms = reciprocalSquareRoot(add(meanSquare, constant(epsilon)));
    const normalised = multiply(x, inverseRms);
    return { output: cast(multiply(normalised, weight), dtype), inverseRms };
  });
}

/**
 * {@link rmsNorm} of `x + branch`.
 * @param x `[tokens, hidden]` float32
 * @param branch `[tokens, hidden]` in the model's dtype
 * @returns also the sum, `[tokens, hidden]` float32
 */
export function addRmsNorm(x: Tensor, branch: Tensor, weight: Tensor, epsilon: number): Normed & { sum: Tensor } {
  if (fusedOpsEnabled()) {
    const [sum, output, inverseRms] = fusedAddRmsNorm(x, branch, weight, epsilon);
    return { sum, output, inverseRms };
  }
  return scope(() => {
    const sum = add(x, cast(branch, 'float32'));
    return { sum, ...rmsNorm(sum, weight, epsilon, branch.dtype as FloatDType) };
  });
}

/** A gradient of the residual stream: `[tokens, hidden]` in float32, and in the model's dtype for the products it goes into. */
export interface StreamGradient {
  exact: Tensor;
  rounded: Tensor;
}

/**
 * Gradient of {@link rmsNorm} by x, added to that of the branch past it: with `n = x / rms(x)` and `g = gradient · w`, the
 * norm's is `(g - n · mean(g · n)) / rms(x)`.
 * @param gradient `[tokens, hidden]` by the norm's output
 * @param residual `[tokens, hidden]` float32; null for none
 */
export function rmsNormGradient(
  gradient: Tensor,
  x: Tensor,
  weight: Tensor,
  inverseRms: Tensor,
  residual: Tensor | null,
): StreamGradient {
  return scope(() => {
    if (fusedOpsEnabled()) {
      const past = residual ?? fill(x.shape, 0);
      const [exact, rounded] = fusedRmsNormGradient(gradient, x, weight, inverseRms, past);
      return { exact, rounded };
    }
    const normalised = multiply(x, inverseRms);
    const weighted = multiply(cast(gradient, 'float32'), weight);
    const projection = mean(multiply(weighted, normalised), -1, { keepDims: true }); // [tokens, 1]
    const own = multiply(subtract(weighted, multiply(normalised, projection)), inverseRms);
    const exact = residual === null ? own : add(residual, own);
    return { exact, rounded: cast(alias(exact), gradient.dtype) };
  });
}
