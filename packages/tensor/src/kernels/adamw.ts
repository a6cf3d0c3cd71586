import { SCALE_VALUES, UNSIGNED_VALUES } from '@lorasmith/weight-files';
import { add, divide, minimum, multiply, square, squareRoot, subtract, sum } from '../arithmetic.js';
import { elementType, execute, executeMany } from '../execute.js';
import { reshape } from '../layout.js';
import { keep, scope, type Tensor } from '../tensor.js';
import { bytesAsFloat32, constant, tensorOf, tensorOfBytes, toFloat32Array } from '../transfer.js';

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

// AdamW's moments in 8 bits, in blocks of 256 with a scale each (Dettmers et al. 2021, arXiv:2110.02861), as bitsandbytes has
// them. What it is in memory: native/ops/adamw/adamw_step.h.

/** Numbers that share a scale. */
export const MOMENT_BLOCK = 256;
/** The codes of a block, then its scale in float32. */
export const MOMENT_BLOCK_BYTES = MOMENT_BLOCK + 4;
const CODES = 256;

/** Bytes of a moment of `count` numbers. */
export function momentBytes(count: number): number {
  return Math.ceil(count / MOMENT_BLOCK) * MOMENT_BLOCK_BYTES;
}

/** `[momentBytes(count)]` uint8: zeros, of a moment of `count` numbers. */
export function zeroMoment(count: number): Tensor {
  return momentOfBytes(new Uint8Array(momentBytes(count)));
}

/** The value of each code, by moment: the dynamic type of bitsandbytes. */
const VALUES = { first: SCALE_VALUES, second: UNSIGNED_VALUES };
let tables: Tensor | null = null;

/** `[2, 256]` float32: what the codes of the first and of the second moment stand for. Made once. */
export function momentTables(): Tensor {
  tables ??= keep(scope(() => tensorOf(Float32Array.of(...VALUES.first, ...VALUES.second), [2, CODES])));
  return tables;
}

/** @param moment `[momentBytes(count)]` uint8, which the binding can read only as numbers of four bytes */
export function bytesOfMoment(moment: Tensor): Uint8Array {
  const words = scope(() => toFloat32Array(bytesAsFloat32(reshape(moment, [moment.size / 4, 4]))));
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** @param bytes as {@link bytesOfMoment} gives them */
export function momentOfBytes(bytes: Uint8Array): Tensor {
  return tensorOfBytes(bytes, [bytes.length], 'uint8');
}

/**
 * The numbers of a moment in 8 bits.
 * @returns `[count]` float32
 */
function decodedMoment(moment: Tensor, which: keyof typeof VALUES, count: number): Tensor {
  const bytes = bytesOfMoment(moment);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const block = Math.floor(i / MOMENT_BLOCK) * MOMENT_BLOCK_BYTES;
    numbers[i] = VALUES[which][bytes[block + (i % MOMENT_BLOCK)]!]! * view.getFloat32(block + MOMENT_BLOCK, true);
  }
  return tensorOf(numbers, [count]);
}

/**
 * A moment in 8 bits.
 * @param moment `[count]` float32
 * @returns `[momentBytes(count)]` uint8
 */
function encodedMoment(moment: Tensor, which: keyof typeof VALUES): Tensor {
  const numbers = toFloat32Array(moment);
  const bytes = new Uint8Array(momentBytes(numbers.length));
  const view = new DataView(bytes.buffer);
  for (let first = 0, block = 0; first < numbers.length; first += MOMENT_BLOCK, block += MOMENT_BLOCK_BYTES) {
    const own = numbers.subarray(first, first + MOMENT_BLOCK);
    const scale = own.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
    for (const [i, number] of own.entries()) bytes[block + i] = codeOf(number, scale, VALUES[which]);
    view.setFloat32(block + MOMENT_BLOCK, scale, true);
  }
  return momentOfBytes(bytes);
}

/** MomentCode of native/ops/adamw/adamw_step.h. */
function codeOf(number: number, scale: number, values: Float32Array): number {
  if (scale === 0) return 0;
  const ratio = Math.fround(number / scale);
  let code = 0;
  for (let step = CODES / 2; step >= 1; step /= 2) {
    const [below = 0, above = 0] = values.subarray(code + step - 1, code + step + 1);
    if (Math.fround(Math.fround(below + above) / 2) < ratio) code += step;
  }
  return code === 0 && number > 0 ? 1 : code;
}
