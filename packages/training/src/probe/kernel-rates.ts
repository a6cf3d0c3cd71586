import { attentionSettings, batchAttention, type Decoder } from '@lorasmith/models';
import { cast, engine, type FloatDType, fill, matMul, scope, sum, type Tensor, toNumber } from '@lorasmith/tensor';

const REPEATS = 5;
const PRODUCT = { inFeatures: 768, outFeatures: 768 };

/** Rate of a matrix product in 10⁹ operations per second, the best of several runs. */
export function matMulRate(dtype: FloatDType, tokens = 512): number {
  const { inFeatures, outFeatures } = PRODUCT;
  return scope(() => {
    const x = fill([tokens, inFeatures], 1, dtype);
    const weight = fill([outFeatures, inFeatures], 1, dtype);
    const seconds = bestSeconds(() => matMul(x, weight, { transposeB: true }));
    return (2 * tokens * inFeatures * outFeatures) / seconds / 1e9;
  });
}

/** The same for the forward pass of attention over rows of one length. */
export function attentionRate(decoder: Decoder, { rows, length }: { rows: number; length: number }): number {
  const settings = attentionSettings(decoder.architecture, 0);
  const { heads, keyValueHeads, headDim } = settings;
  return scope(() => {
    const rowLengths = Array.from({ length: rows }, () => length);
    const attention = batchAttention({ rowLengths, heads, rotary: decoder.rotary, dtype: decoder.dtype });
    const qkv = fill([rows * length, (heads + 2 * keyValueHeads) * headDim], 0.1, decoder.dtype);
    const seconds = bestSeconds(() => attention.forward(qkv, settings, false).output);
    const scores = (rows * length ** 2 * heads * headDim) / 2;
    return (2 * 2 * scores) / seconds / 1e9;
  });
}

function bestSeconds(compute: () => Tensor): number {
  let best = Number.POSITIVE_INFINITY;
  for (let repeat = 0; repeat <= REPEATS; repeat++) {
    const start = process.hrtime.bigint();
    const result = compute();
    // A GPU computes asynchronously; reading a number back waits for it.
    if (engine.device === 'gpu') scope(() => toNumber(sum(cast(result, 'float32'), 'all')));
    result.dispose();
    // The first run also starts threads and selects kernels.
    if (repeat > 0) best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e9);
  }
  return best;
}
