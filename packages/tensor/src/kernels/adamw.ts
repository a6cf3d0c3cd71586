import { add, divide, minimum, multiply, square, squareRoot, subtract, sum } from '../arithmetic.js';
import { elementType, execute, executeMany } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';
import { constant, tensorOf } from '../transfer.js';
import { decodedMoment, encodedMoment, momentTables } from './quantized-moments.js';

// What the op computes: see Kernels.

/** The inputs of an AdamW update: `[n]` float32 each, unless it says more. */
export interface AdamWState {
  parameters: Tensor;
  /** Running means of the gradient and of its square; in 8 bits `[momentBytes(n)]` uint8. */
  first: Tensor;
  second: Tensor;
  /** The factor of the learning rate of each number; null: 1. */
  rateFactors: Tensor | null;
}

/** The numbers of one update. */
export interface AdamWStep {
  /** The factor of the given gradient: 1 / normaliser. */
  gradientScale: number;
  /** The scaled gradient is clipped to this norm, as by torch.nn.utils.clip_grad_norm_; null: never. */
  maxNorm: number | null;
  beta1: number;
  beta2: number;
  epsilon: number;
  learningRate: number;
  weightDecay: number;
  /** Counted from 1. */
  step: number;
}

/** The new state. */
export type AdamWUpdate = {
  parameters: Tensor;
  first: Tensor;
  second: Tensor;
};

/** The numbers of a step as ops use them, rounded to float32. */
function numbersOf({ beta1, beta2, epsilon, learningRate, weightDecay, step, ...gradient }: AdamWStep) {
  return {
    gradientScale: gradient.gradientScale,
    maxNorm: gradient.maxNorm ?? Number.POSITIVE_INFINITY,
    beta1,
    oneMinusBeta1: 1 - beta1,
    beta2,
    oneMinusBeta2: 1 - beta2,
    rootCorrection: Math.sqrt(1 - beta2 ** step),
    epsilon,
    stepSize: learningRate / (1 - beta1 ** step),
    decayRate: learningRate * weightDecay,
    kept: 1 - learningRate * weightDecay,
  };
}

/** The numbers in the order of native/ops/adamw/adamw_step.h. */
function stepTensor(step: AdamWStep): Tensor {
  const numbers = Float32Array.from(Object.values(numbersOf(step)));
  return tensorOf(numbers, [numbers.length]);
}

export function fusedAdamW(state: AdamWState, gradient: Tensor, squareSum: Tensor, step: AdamWStep): AdamWUpdate {
  return scope(() => {
    const rateFactors = state.rateFactors ?? tensorOf(new Float32Array(0), [0]);
    const inputs = [state.parameters, gradient, state.first, state.second, rateFactors, squareSum, stepTensor(step)];
    const [op, tables] = isQuantized(state) ? ['LorasmithAdamW8bit', [momentTables()]] : ['LorasmithAdamW', []];
    const [parameters, first, second] = executeMany(op, [elementType(gradient)], [...inputs, ...tables], 3);
    return { parameters: parameters!, first: first!, second: second! };
  });
}

const isQuantized = ({ first }: AdamWState) => first.dtype === 'uint8';

export function rawAdamW(state: AdamWState, gradient: Tensor, squareSum: Tensor, step: AdamWStep): AdamWUpdate {
  if (isQuantized(state)) return rawAdamW8bit(state, gradient, squareSum, step);
  const numbers = numbersOf(step);
  return scope(() => {
    const clipped = multiply(
      multiply(gradient, scalar(numbers.gradientScale)),
      clippingFactor(squareSum, step.maxNorm),
    );
    const first = add(
      multiply(state.first, constant(numbers.beta1)),
      multiply(clipped, constant(numbers.oneMinusBeta1)),
    );
    const second = add(
      multiply(state.second, constant(numbers.beta2)),
      multiply(square(clipped), constant(numbers.oneMinusBeta2)),
    );
    const denominator = add(divide(squareRoot(second), scalar(numbers.rootCorrection)), constant(numbers.epsilon));
    const perNumber = (rate: number) =>
      state.rateFactors === null ? scalar(rate) : multiply(state.rateFactors, scalar(rate));
    const kept = () =>
      state.rateFactors === null ? scalar(numbers.kept) : subtract(constant(1), perNumber(numbers.decayRate));
    const decayed = numbers.decayRate === 0 ? state.parameters : multiply(state.parameters, kept());
    const parameters = subtract(decayed, multiply(divide(first, denominator), perNumber(numbers.stepSize)));
    return { parameters, first, second };
  });
}

/** The moments are decoded and encoded by JavaScript. */
function rawAdamW8bit(state: AdamWState, gradient: Tensor, squareSum: Tensor, step: AdamWStep): AdamWUpdate {
  const count = state.parameters.size;
  return scope(() => {
    const exact = {
      ...state,
      first: decodedMoment(state.first, 'first', count),
      second: decodedMoment(state.second, 'second', count),
    };
    const { parameters, first, second } = rawAdamW(exact, gradient, squareSum, step);
    return { parameters, first: encodedMoment(first, 'first'), second: encodedMoment(second, 'second') };
  });
}

/** The factor that brings the norm of a gradient to at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ has it; `[1]`. */
function clippingFactor(squareSum: Tensor, maxNorm: number | null): Tensor {
  if (maxNorm === null) return constant(1);
  return minimum(constant(1), divide(constant(maxNorm), add(squareRoot(squareSum), constant(1e-6))));
}

export function fusedSquareSum(x: Tensor, factor: number): Tensor {
  return scope(() => execute('LorasmithSquareSum', [elementType(x)], [x, scalar(factor)]));
}

export function rawSquareSum(x: Tensor, factor: number): Tensor {
  return scope(() => sum(square(multiply(x, scalar(factor))), 'all', { keepDims: true }));
}

/** The tensor of a number that changes from step to step; others are {@link constant}. */
const scalar = (value: number): Tensor => tensorOf(Float32Array.of(value), []);
