import { ProductError } from '@lorasmith/contracts';
import { seededPermutation } from '@lorasmith/seeded-random';
import { BitSet } from './bit-set.js';

/**
 * Which rows are held out: `ceil(split × rows)` of them, drawn by the seed alone. The same dataset, split and seed always
 * hold out the same rows, whatever else the job sets.
 *
 * @returns The rows held out, by their index in the dataset.
 * @throws ProductError `validation_split_empty` when that would leave nothing to train on.
 */
export function heldOutRows(rows: number, split: number, seed: number): BitSet {
  const heldOut = new BitSet(rows);
  if (split === 0) return heldOut;
  const count = Math.ceil(split * rows);
  if (count >= rows) {
    const message = `validation.split ${split} of ${rows} rows leaves none to train on. Lower it, or add rows.`;
    throw new ProductError('validation_split_empty', message, { param: 'validation.split' });
  }
  const order = seededPermutation(seed, 'validation split', rows);
  for (let index = 0; index < count; index++) heldOut.add(order.at(index));
  return heldOut;
}
