import { ProductError } from '@lorasmith/contracts';
import { seededPermutation } from '@lorasmith/seeded-random';
import { BitSet } from './bit-set.js';

/**
 * Which rows are held out: `ceil(split × rows)` of them, drawn by the seed alone, so that the same dataset, share and seed
 * always hold out the same rows, whatever else the job sets.
 *
 * @returns The rows held out, by their place in the dataset, from 0.
 * @throws ProductError `validation_split_empty` when that would leave nothing to train on.
 */
export function heldOutRows(rows: number, split: number, seed: number): BitSet {
  const heldOut = new BitSet(rows);
  if (split === 0) return heldOut;
  const count = Math.ceil(split * rows);
  if (count >= rows) {
    const message = `A validation split of ${split} of ${rows} rows leaves none to train on. Make it smaller, or add rows.`;
    throw new ProductError('validation_split_empty', message, { param: 'validation.split' });
  }
  const order = seededPermutation(seed, 'validation split', rows);
  for (let place = 0; place < count; place++) heldOut.add(order.at(place));
  return heldOut;
}
