import {
  type AttentionSettings,
  add,
  cast,
  engine,
  type FloatDType,
  fill,
  kernelsFor,
  matMul,
  scope,
  sum,
  type Tensor,
  toNumber,
} from '@lorasmith/tensor';

const REPEATS = 5;

export interface ProductShape {
  tokens: number;
  inFeatures: number;
  outFeatures: number;
}
/** Large enough for a processor to be at its rate. */
export const PRODUCT: ProductShape = { tokens: 512, inFeatures: 768, outFeatures: 768 };

export interface AttentionShape {
  rows: number;
  length: number;
  heads: number;
  keyValueHeads: number;
  headDim: number;
}

/** Rate of a matrix product in 10⁹ operations per second, the best of several runs. */
export function matMulRate(dtype: FloatDType, { tokens, inFeatures, outFeatures }: ProductShape = PRODUCT): number {
  return scope(() => {
    const x = fill([tokens, inFeatures], 1, dtype);
    const weight = fill([outFeatures, inFeatures], 1, dtype);
    const seconds = bestSeconds(() => matMul(x, weight, { transposeB: true }));
    return (2 * tokens * inFeatures * outFeatures) / seconds / 1e9;
  });
}

/** The same for the forward pass of attention over rows of one length. */
export function attentionRate(dtype: FloatDType, shape: AttentionShape): number {
  const { rows, length, heads, keyValueHeads, headDim } = shape;
  const settings: AttentionSettings = {
    ...{ heads, keyValueHeads, headDim, window: null, softcap: null },
    scale: 1 / Math.sqrt(headDim),
  };
  return scope(() => {
    const lengths = Array.from({ length: rows }, () => length);
    const angles = { cosine: fill([length, headDim / 2], 1), sine: fill([length, headDim / 2], 0) };
    const attention = kernelsFor(dtype).batchAttention({ lengths, heads, angles, windows: [null] });
    const qkv = fill([rows * length, (heads + 2 * keyValueHeads) * headDim], 0.1, dtype);
    const seconds = bestSeconds(() => attention.forward(qkv, settings, false).output);
    const scores = (rows * length ** 2 * heads * headDim) / 2;
    return (2 * 2 * scores) / seconds / 1e9;
  });
}

/** 10⁹ bytes per second that a pass over memory reads and writes. */
export function passRate(dtype: FloatDType, count: number): number {
  return scope(() => {
    const x = fill([count], 1, dtype);
    const bytes = 3 * x.sizeBytes;
    return bytes / bestSeconds(() => add(x, x)) / 1e9;
  });
}

function bestSeconds(compute: () => Tensor): number {
  let best = Number.POSITIVE_INFINITY;
  for (let repeat = 0; repeat <= REPEATS; repeat++) {
    waitForGpu();
    const start = process.hrtime.bigint();
    const result = compute();
    waitForGpu(result);
    result.dispose();
    // The first run also starts threads and selects kernels.
    if (repeat > 0) best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e9);
  }
  return best;
}

/** A GPU computes asynchronously. TensorFlow's engine can only be waited for by reading a number that it computes. */
export function waitForGpu(result: Tensor | null = null): void {
  if (engine.cuda !== null) engine.cuda.synchronize();
  else if (engine.device === 'gpu' && result !== null) scope(() => toNumber(sum(cast(result, 'float32'), 'all')));
}
