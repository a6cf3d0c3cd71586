import { scope, type Tensor } from '../tensor.js';
import { onDevice, tensorOf } from '../transfer.js';

/** Rows of tokens that lie one after the other, for ops that go through each from its start. */
export type TokenRows = {
  lengths: readonly number[];
  /** `[rows + 1]` int32: where each row begins in the stream, and where the last ends */
  offsets: Tensor;
};

/** @param lengths in the order of the stream */
export function tokenRows(lengths: readonly number[]): TokenRows {
  const offsets = new Int32Array(lengths.length + 1);
  for (const [row, length] of lengths.entries()) offsets[row + 1] = offsets[row]! + length;
  return { lengths, offsets: scope(() => onDevice(tensorOf(offsets, [offsets.length]))) };
}
