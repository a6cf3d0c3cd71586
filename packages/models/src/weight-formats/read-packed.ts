import type { QuantizedWeight, WeightReader } from '@lorasmith/model-folder';
import type { PackedRows } from '@lorasmith/tensor';
import { readMade, readStored } from './four-bit.js';
import { readFp8 } from './fp8.js';
import { readMxfp4 } from './mxfp4.js';
import type { ReadPacked, TensorReading } from './tensor-reading.js';

/** The reader of each format: a format that is added has a file in this folder, and a line here. */
const READERS: { readonly [Reader in WeightReader]: unknown } = {
  'stored-4-bit': readStored,
  'made-4-bit': readMade,
  fp8: readFp8,
  mxfp4: readMxfp4,
};

/**
 * Quantized weights of one format as they stay in memory, one below the other.
 * @param names of the tensors of their numbers
 * @throws ProductError model_file_corrupt for a scale that is no number, or too large
 */
export async function readPacked<Packed extends PackedRows>(
  reading: TensorReading,
  names: readonly string[],
  weights: readonly QuantizedWeight[],
): Promise<Packed> {
  // Each reads weights of its own class alone.
  const read = READERS[weights[0]!.reader] as ReadPacked<QuantizedWeight, Packed>;
  return await read(reading, names, weights);
}
