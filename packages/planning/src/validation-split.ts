import { ProductError } from '@lorasmith/contracts';
import { SeededRandom } from './seeded-random.js';

/**
 * Which rows are held out: `ceil(split × rows)` of them, drawn by the seed alone, so that the same dataset, share and seed
 * always hold out the same rows, whatever else the job sets.
 *
 * @returns `[rows]` 1 where the row is held out.
 * @throws ProductError `validation_split_empty` when that would leave nothing to train on.
 */
export function heldOutRows(rows: number, split: number, seed: number): Uint8Array {
  const heldOut = new Uint8Array(rows);
  if (split === 0) return heldOut;
  const count = Math.ceil(split * rows);
  if (count >= rows) {
    const message = `A validation split of ${split} of ${rows} rows leaves none to train on. Make it smaller, or add rows.`;
    throw new ProductError('validation_split_empty', message, { param: 'validation.split' });
  }
  const order = new SeededRandom(seed, 'validation split').permutation(rows);
  for (const row of order.subarray(0, count)) heldOut[row] = 1;
  return heldOut;
}
