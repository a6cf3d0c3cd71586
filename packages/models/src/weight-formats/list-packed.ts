import type { ModelFolder, QuantizedWeight, WeightReader } from '@lorasmith/model-folder';
import type { PackedRows } from '@lorasmith/tensor';
import type { ReadItem } from '../loading/listed.js';
import { listQuantizedOnLoad, listStored } from './four-bit.js';
import { listFp8 } from './fp8.js';
import { listMxfp4 } from './mxfp4.js';
import type { ListPacked } from './packed-format.js';

/** The reader of each format: a format that is added has a file in this folder, and a line here. */
const READERS: { readonly [Reader in WeightReader]: unknown } = {
  'stored-4-bit': listStored,
  'quantized-on-load': listQuantizedOnLoad,
  fp8: listFp8,
  mxfp4: listMxfp4,
};

/**
 * Quantized weights of one format as they stay in memory, one below the other.
 * @param names of the tensors of their numbers
 * @throws ProductError model_file_corrupt, when they are read, for a scale that is no number, or too large
 */
export function listPacked<Packed extends PackedRows>(
  folder: ModelFolder,
  names: readonly string[],
  weights: readonly QuantizedWeight[],
): ReadItem<Packed> {
  // Each reads weights of its own class alone.
  const list = READERS[weights[0]!.reader] as ListPacked<QuantizedWeight, Packed>;
  return list(folder, names, weights);
}
