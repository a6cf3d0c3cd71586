import type { Report, TrainingSettings } from '@lorasmith/contracts';
import { cast, engine, type FloatDType, matMul, scope, sum, type Tensor, tensorOf, toNumber } from '@lorasmith/tensor';

export type ChosenPrecision = Report['precision'] & { chosen: FloatDType };

/** Shape of the probe: a layer of a small model over a batch; large enough that the product itself is what is timed. */
const PROBE = { tokens: 512, inFeatures: 768, outFeatures: 768, repeats: 5 };

/** What the job asks for; `auto` is decided by timing a matrix product in either type on this machine. */
export function choosePrecision(setting: TrainingSettings['precision'], family: string): ChosenPrecision {
  if (setting !== 'auto') return { chosen: setting, reason: 'The job asked for it.' };
  if (family === 'classifier') return { chosen: 'float32', reason: 'Classifiers are small: exact is fast enough.' };
  const float32 = matMulRate('float32');
  const bfloat16 = matMulRate('bfloat16');
  const measured = `matrix products run at ${Math.round(bfloat16)} GFLOP/s in bfloat16 and ${Math.round(float32)} in float32 here`;
  return bfloat16 > float32
    ? { chosen: 'bfloat16', reason: `Faster: ${measured}${engine.onGpu ? ' (GPU)' : ''}.` }
    : { chosen: 'float32', reason: `bfloat16 is not faster: ${measured}.` };
}

/** Billions of floating-point operations per second of a matrix product, the best of a few. */
function matMulRate(dtype: FloatDType): number {
  const { tokens, inFeatures, outFeatures, repeats } = PROBE;
  return scope(() => {
    const ones = (rows: number) =>
      cast(tensorOf(new Float32Array(rows * inFeatures).fill(1), [rows, inFeatures]), dtype);
    const x = ones(tokens);
    const weight = ones(outFeatures);
    let bestSeconds = Number.POSITIVE_INFINITY;
    for (let repeat = 0; repeat <= repeats; repeat++) {
      const start = process.hrtime.bigint();
      const product: Tensor = matMul(x, weight, { transposeB: true });
      // Reading a number back waits for a device that computes on its own.
      if (engine.onGpu) toNumber(sum(cast(product, 'float32'), 'all'));
      product.dispose();
      // The first one also starts threads and picks kernels.
      if (repeat > 0) bestSeconds = Math.min(bestSeconds, Number(process.hrtime.bigint() - start) / 1e9);
    }
    return (2 * tokens * inFeatures * outFeatures) / bestSeconds / 1e9;
  });
}
