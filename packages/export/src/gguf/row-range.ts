import { NESTED_BLOCK, QUANTIZED_BLOCK } from '@lorasmith/model-folder';
import type { TensorEntry } from '@lorasmith/safetensors';
import type { FilePart, StoredTensor, WeightUpdate } from '@lorasmith/weight-io';
import type { RowRange } from './tensor-names.js';

const FLOAT_BYTES = 4;

/**
 * Some rows of a stored matrix; null for a quantized weight whose blocks do not end there, or that is quantized when it is read:
 * its scales depend on all rows.
 */
export function storedRows(
  stored: StoredTensor,
  { shape, byteLength }: Pick<TensorEntry, 'shape' | 'byteLength'>,
  { first, count }: RowRange,
): StoredTensor | null {
  const [rows, width] = shape as [number, number];
  const { quantized } = stored;
  if (quantized === undefined) {
    const rowBytes = byteLength / rows;
    return { ...stored, ...partOf(stored, first * rowBytes, count * rowBytes) };
  }
  const [before, numbers] = [first * width, count * width];
  if ('numbers' in quantized) return null;
  if ('blocks' in quantized) {
    const { scales, block, columns } = quantized.blocks;
    const across = Math.ceil(columns / block[1]);
    if (first % block[0] !== 0) return null;
    const ofRows = scales.subarray((first / block[0]) * across, Math.ceil((first + count) / block[0]) * across);
    const blocks = { ...quantized.blocks, scales: ofRows };
    return { ...stored, ...partOf(stored, before, numbers), quantized: { shape: [count, width], blocks } };
  }
  const { nested } = quantized;
  if ([before, numbers].some((some) => some % QUANTIZED_BLOCK !== 0)) return null;
  if (nested !== null && before % (QUANTIZED_BLOCK * NESTED_BLOCK) !== 0) return null;
  const scaleBytes = nested === null ? FLOAT_BYTES : 1;
  const [skipped, scales] = [before / QUANTIZED_BLOCK, numbers / QUANTIZED_BLOCK];
  return {
    ...stored,
    ...partOf(stored, before / 2, numbers / 2),
    quantized: {
      ...quantized,
      shape: [count, width],
      scales: partOf(quantized.scales, skipped * scaleBytes, scales * scaleBytes),
      nested: nested && {
        ...nested,
        scales: partOf(
          nested.scales,
          (skipped / NESTED_BLOCK) * FLOAT_BYTES,
          Math.ceil(scales / NESTED_BLOCK) * FLOAT_BYTES,
        ),
      },
    },
  };
}

/** The update of some rows of a weight. */
export function updateOfRows(update: WeightUpdate, rows: RowRange): WeightUpdate {
  return { ...update, shape: [rows.count, update.shape[1]], b: rowsOfB(update, rows) };
}

/** The rows of B for some rows of a layer. */
export function rowsOfB({ b, rank }: { b: Float32Array; rank: number }, { first, count }: RowRange): Float32Array {
  return b.subarray(first * rank, (first + count) * rank);
}

function partOf({ fd, offset }: FilePart, skipped: number, bytes: number): FilePart {
  return { fd, offset: offset + skipped, bytes };
}
