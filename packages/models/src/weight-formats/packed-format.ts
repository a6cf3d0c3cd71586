import type { ModelFolder } from '@lorasmith/model-folder';
import type { PackedRows } from '@lorasmith/tensor';
import type { ReadItem } from '../loading/listed.js';

/** Weights of one format as one matrix, one weight below the other. @param names of the tensors of their numbers */
export type ListPacked<Weight, Packed extends PackedRows> = (
  folder: ModelFolder,
  names: readonly string[],
  weights: readonly Weight[],
) => ReadItem<Packed>;

/** A count of all weights. */
export function total<Weight>(weights: readonly Weight[], countOf: (weight: Weight) => number): number {
  return weights.reduce((sum, weight) => sum + countOf(weight), 0);
}
