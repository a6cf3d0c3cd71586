import { observeOps } from '../../packages/tensor/dist/index.js';
import { engineStep, medianSeconds } from './engine-step.mjs';

/**
 * Time of a training step by kind of op.
 *
 * @param {{ model: string, precision: 'float32' | 'bfloat16', rows: number, length: number, repeats: number }} options
 */
export async function measure({ model, precision, rows, length, repeats }) {
  const { batchOf, run } = await engineStep(model, precision);
  const batch = batchOf({ rows, length });
  const wholeSeconds = medianSeconds(() => run(batch), repeats);
  /** @type {Map<string, { calls: number, seconds: number }>} */
  const kinds = new Map();
  observeOps(({ name, seconds }) => {
    const kind = kinds.get(name) ?? { calls: 0, seconds: 0 };
    kind.calls += 1;
    kind.seconds += seconds;
    kinds.set(name, kind);
  });
  for (let repeat = 0; repeat < repeats; repeat++) run(batch);
  observeOps(null);
  const ops = [...kinds]
    .map(([name, { calls, seconds }]) => ({ name, calls: calls / repeats, seconds: seconds / repeats }))
    .sort((a, b) => b.seconds - a.seconds);
  const inOps = ops.reduce((sum, { seconds }) => sum + seconds, 0);
  return { tokens: rows * length, seconds: wholeSeconds, seconds_in_ops: inOps, ops };
}
