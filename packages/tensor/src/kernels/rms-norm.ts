import { add, mean, multiply, reciprocalSquareRoot, square, subtract } from '../arithmetic.js';
import { elementType, execute, executeMany, floatAttribute, typeAttribute } from '../execute.js';
import { fill } from '../layout.js';
import { alias, type FloatDType, scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';

// What the ops compute: see Kernels.

export interface Normed {
  /** `[tokens, hidden]` in the model's dtype */
  output: Tensor;
  /** `[tokens, 1]` float32, for the gradient */
  inverseRms: Tensor;
}

/** A gradient of the residual stream: `[tokens, hidden]` in float32, and in the model's dtype for the products it goes into. */
export type StreamGradient = {
  exact: Tensor;
  rounded: Tensor;
};

export function fusedCentred(x: Tensor): Tensor {
  return execute('LorasmithCentred', [elementType(x)], [x]);
}

export function rawCentred(x: Tensor): Tensor {
  return scope(() => subtract(x, mean(x, -1, { keepDims: true })));
}

export function fusedRmsNorm(x: Tensor, weight: Tensor, epsilon: number, dtype: FloatDType): Normed {
  const attributes = [typeAttribute('T', dtype), floatAttribute('epsilon', epsilon)];
  const [output, inverseRms] = executeMany('LorasmithRmsNorm', attributes, [x, weight], 2);
  return { output: output!, inverseRms: inverseRms! };
}

export function rawRmsNorm(x: Tensor, weight: Tensor, epsilon: number, dtype: FloatDType): Normed {
  return scope(() => {
    const meanSquare = mean(square(x), -1, { keepDims: true }); // [tokens, 1]
    const inverseRms = reciprocalSquareRoot(add(meanSquare, constant(epsilon)));
    const normalised = multiply(x, inverseRms);
    return { output: cast(multiply(normalised, weight), dtype), inverseRms };
  });
}

export function fusedAddRmsNorm(x: Tensor, branch: Tensor, weight: Tensor, epsilon: number): Normed & { sum: Tensor } {
  const attributes = [elementType(branch), floatAttribute('epsilon', epsilon)];
  const [sum, output, inverseRms] = executeMany('LorasmithAddRmsNorm', attributes, [x, branch, weight], 3);
  return { sum: sum!, output: output!, inverseRms: inverseRms! };
}

export function rawAddRmsNorm(x: Tensor, branch: Tensor, weight: Tensor, epsilon: number): Normed & { sum: Tensor } {
  return scope(() => {
    const sum = add(x, cast(branch, 'float32'));
    return { sum, ...rawRmsNorm(sum, weight, epsilon, branch.dtype as FloatDType) };
  });
}

export function fusedRmsNormGradient(
  gradient: Tensor,
  x: Tensor,
  weight: Tensor,
  inverseRms: Tensor,
  residual: Tensor | null,
): StreamGradient {
  return scope(() => {
    const inputs = [gradient, x, weight, inverseRms, residual ?? fill(x.shape, 0)];
    const [exact, rounded] = executeMany('LorasmithRmsNormGradient', [elementType(gradient)], inputs, 2);
    return { exact: exact!, rounded: rounded! };
  });
}

export function rawRmsNormGradient(
  gradient: Tensor,
  x: Tensor,
  weight: Tensor,
  inverseRms: Tensor,
  residual: Tensor | null,
): StreamGradient {
  return scope(() => {
    const normalised = multiply(x, inverseRms);
    const weighted = multiply(cast(gradient, 'float32'), weight);
    const projection = mean(multiply(weighted, normalised), -1, { keepDims: true }); // [tokens, 1]
    const own = multiply(subtract(weighted, multiply(normalised, projection)), inverseRms);
    const exact = residual === null ? own : add(residual, own);
    return { exact, rounded: cast(alias(exact), gradient.dtype) };
  });
}
