import { ProductError } from '@lorasmith/contracts';
import { seededPermutation } from '@lorasmith/seeded-random';
import { BitSet } from './bit-set.js';

/**
 * How many rows are held out: `ceil(split × rows)`.
 * @throws ProductError `validation_split_empty` when that would leave nothing to train on.
 */
export function heldOutCount(rows: number, split: number): number {
  const count = Math.ceil(split * rows);
  if (split === 0 || count < rows) return count;
  const message = `validation.split ${split} of ${rows} rows leaves none to train on. Lower it, or add rows.`;
  throw new ProductError('validation_split_empty', message, { param: 'validation.split' });
}

/**
 * The rows that are held out, drawn by the seed alone. The same dataset, split and seed always hold out the same rows, whatever
 * else the job sets.
 *
 * @returns The rows held out, by their index in the dataset.
 * @throws ProductError as {@link heldOutCount}
 */
export function heldOutRows(rows: number, split: number, seed: number): BitSet {
  const heldOut = new BitSet(rows);
  const count = heldOutCount(rows, split);
  if (count === 0) return heldOut;
  const order = seededPermutation(seed, 'validation split', rows);
  for (let index = 0; index < count; index++) heldOut.add(order.at(index));
  return heldOut;
}
