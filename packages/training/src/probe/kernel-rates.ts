import type { MachineRates } from '@lorasmith/contracts';
import { ATTENTION_BACKWARD } from '@lorasmith/planning';
import { SeededRandom } from '@lorasmith/seeded-random';
import {
  type AttentionSettings,
  add,
  cast,
  constant,
  engine,
  type FloatDType,
  fill,
  type KernelSet,
  multiply,
  scope,
  sum,
  type Tensor,
  tensorOf,
  toNumber,
} from '@lorasmith/tensor';

/** So many repeats at least, over so long at least: a processor soon computes less fast than at first. */
const SUSTAINED = { warmUps: 1, repeats: 3, leastSeconds: 0.25 };
/** Enough runs that one of them has the processor for itself, in some ten milliseconds. */
const FASTEST = { warmUps: 1, repeats: 20, quantile: 0 };
/** The rows of a product that takes as long as the reading of its weights. */
const FEW_ROWS = 8;
/** So many matrices that no cache has all of them: a model's weights come from memory. */
const BEYOND_CACHES = 16;

export interface ProductShape {
  tokens: number;
  inFeatures: number;
  outFeatures: number;
}
/** A product as in models of one to three billion parameters: matrices that no core has in its own cache. */
export const PRODUCT = { inFeatures: 2048, outFeatures: 2048 };

const SMALL_PRODUCT: ProductShape = { tokens: 512, inFeatures: 768, outFeatures: 768 };

export interface AttentionShape {
  rows: number;
  length: number;
  heads: number;
  keyValueHeads: number;
  headDim: number;
}

/** Numbers as a model has them: a GPU computes faster on constants, which change fewer bits. */
function randomTensor(shape: number[], dtype: FloatDType): Tensor {
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  new SeededRandom(0, 'rates').fillUniform(values, 1);
  return cast(tensorOf(values, shape), dtype);
}

/**
 * Rate of a matrix product in 10⁹ operations a second, to compare types within some milliseconds: of the fastest of some runs, which other
 * work on the machine disturbs least.
 */
export function matMulRate(kernels: KernelSet, dtype: FloatDType): number {
  const { tokens, inFeatures, outFeatures } = SMALL_PRODUCT;
  return scope(() => {
    const x = randomTensor([tokens, inFeatures], dtype);
    const weight = randomTensor([outFeatures, inFeatures], dtype);
    const seconds = secondsOf(() => kernels.matMul(x, weight, { transposeB: true }), FASTEST);
    return (2 * tokens * inFeatures * outFeatures) / seconds / 1e9;
  });
}

/** The rates of the products of frozen layers, forward and backward: of operations beyond the reading of weights, and of that. */
export function productRates(
  kernels: KernelSet,
  dtype: FloatDType,
  { tokens, inFeatures, outFeatures }: ProductShape,
): Pick<MachineRates, 'matmul_gflops' | 'weight_gbytes'> {
  return scope(() => {
    const weight = randomTensor([outFeatures, inFeatures], dtype);
    const secondsWith = (rows: number, weights: readonly Tensor[]) => {
      const x = randomTensor([rows, inFeatures], dtype);
      const gradient = randomTensor([rows, outFeatures], dtype);
      let call = 0;
      return secondsOf(() => {
        const own = weights[call++ % weights.length]!;
        kernels.matMul(x, own, { transposeB: true }).dispose();
        return kernels.matMul(gradient, own);
      }, SUSTAINED);
    };
    const [few, many] = [secondsWith(FEW_ROWS, [weight]), secondsWith(tokens, [weight])];
    const operations = 2 * 2 * (tokens - FEW_ROWS) * inFeatures * outFeatures;
    const beyondCaches = Array.from({ length: BEYOND_CACHES }, () => multiply(weight, constant(1, dtype)));
    return {
      // If reading the weights takes as long as all, assume a small share for the rest.
      matmul_gflops: operations / Math.max(many - few, 0.1 * many) / 1e9,
      weight_gbytes: (2 * weight.sizeBytes) / secondsWith(FEW_ROWS, beyondCaches) / 1e9,
    };
  });
}

/** Rate of attention, forward and backward, over rows of one length, in 10⁹ operations a second. */
export function attentionRate(kernels: KernelSet, dtype: FloatDType, shape: AttentionShape): number {
  const { rows, length, heads, keyValueHeads, headDim } = shape;
  const settings: AttentionSettings = {
    ...{ heads, keyValueHeads, headDim, window: null, softcap: null },
    scale: 1 / Math.sqrt(headDim),
  };
  return scope(() => {
    const lengths = Array.from({ length: rows }, () => length);
    const angles = { cosine: fill([length, headDim / 2], 1), sine: fill([length, headDim / 2], 0) };
    const attention = kernels.of(dtype).batchAttention({ lengths, heads, angles, windows: [null] });
    const qkv = randomTensor([rows * length, (heads + 2 * keyValueHeads) * headDim], dtype);
    const gradient = randomTensor([rows * length, heads * headDim], dtype);
    const seconds = secondsOf(() => {
      const { output, saved } = attention.forward(qkv, settings, true);
      output.dispose();
      return attention.backward(gradient, saved!, settings);
    }, SUSTAINED);
    const scores = (rows * length ** 2 * heads * headDim) / 2;
    return ((1 + ATTENTION_BACKWARD) * 2 * 2 * scores) / seconds / 1e9;
  });
}

/** 10⁹ bytes per second that a pass over memory reads and writes. */
export function passRate(dtype: FloatDType, count: number): number {
  return scope(() => {
    const x = randomTensor([count], dtype);
    const y = multiply(x, constant(0.5, dtype));
    const bytes = 3 * x.sizeBytes;
    return bytes / secondsOf(() => add(x, y), SUSTAINED) / 1e9;
  });
}

function secondsOf(compute: () => Tensor, options: SteadyOptions): number {
  waitForGpu();
  return steadySeconds(() => {
    const result = compute();
    waitForGpu(result);
    result.dispose();
  }, options);
}

/** A GPU computes asynchronously. TensorFlow's engine can only be waited for by reading a number that it computes. */
export function waitForGpu(result: Tensor | null = null): void {
  if (engine.cuda !== null) engine.cuda.synchronize();
  else if (engine.device === 'gpu' && result !== null) scope(() => toNumber(sum(cast(result, 'float32'), 'all')));
}

interface SteadyOptions {
  /** Runs that are not measured. */
  warmUps: number;
  /** Measured runs, at least. */
  repeats: number;
  /** The time that they take together, at least. @defaultValue 0 */
  leastSeconds?: number;
  /** The quantile of the sorted times that counts, from 0, the shortest, to 1. @defaultValue 0.5: the median */
  quantile?: number;
  /** The time in nanoseconds. @defaultValue a monotonic clock */
  now?: () => bigint;
}

/** The median time of a run, or another quantile, once it has run for a while. */
export function steadySeconds(
  run: () => void,
  { warmUps, repeats, leastSeconds = 0, quantile = 0.5, now = process.hrtime.bigint }: SteadyOptions,
): number {
  for (let i = 0; i < warmUps; i++) run();
  const seconds: number[] = [];
  let all = 0;
  while (seconds.length < repeats || all < leastSeconds) {
    const start = now();
    run();
    const taken = Number(now() - start) / 1e9;
    seconds.push(taken);
    all += taken;
  }
  return seconds.sort((a, b) => a - b)[Math.min(seconds.length - 1, Math.floor(quantile * seconds.length))]!;
}
