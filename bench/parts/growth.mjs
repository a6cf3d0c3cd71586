import { engineStep, medianSeconds } from './engine-step.mjs';

/**
 * Tokens per second and peak memory of one size of micro-batch.
 *
 * @param {{ model: string, precision: 'float32' | 'bfloat16', rows: number, length: number, recompute?: boolean, repeats: number }} options
 */
export async function measure({ model, precision, rows, length, recompute = false, repeats }) {
  const { batchOf, run } = await engineStep(model, precision);
  const batch = batchOf({ rows, length });
  const seconds = medianSeconds(() => run(batch, recompute), repeats);
  return {
    rows,
    length,
    tokens: rows * length,
    tokens_per_second: (rows * length) / seconds,
    peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
  };
}
