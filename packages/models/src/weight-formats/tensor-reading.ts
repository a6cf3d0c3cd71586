import type { ModelFolder, WeightTarget } from '@lorasmith/model-folder';
import type { FloatDType, PackedRows, Tensor } from '@lorasmith/tensor';
import type { Region } from '@lorasmith/weight-io';

/** How tensors of the files become one of the engine. */
export interface Filling {
  dtype: WeightTarget['dtype'];
  tensorDtype: FloatDType | 'uint8';
  shape: readonly number[];
}

/** The part of a WeightSource that readers of quantized weights need. They ask for all tensors before they wait for the first one. */
export interface TensorReading {
  readonly folder: ModelFolder;
  /** A tensor of what is read of others, one behind the other. */
  filled(names: readonly string[], filling: Filling): Promise<Tensor>;
  /** The memory of tensors, one behind the other, and with NF4 the float32 scales of its blocks. */
  read(names: readonly string[], dtype: WeightTarget['dtype']): Promise<{ own: Region; scales: Region | null }>;
  /** A tensor in this memory, which belongs to it from then on. */
  adopted(region: Region, shape: readonly number[], dtype: FloatDType | 'uint8'): Tensor;
  /** A tensor that was made of given ones, freed like them when loading fails. */
  give(tensor: Tensor): Tensor;
}

/** Reads weights of one format into one matrix, one weight below the other. @param names of the tensors of their numbers */
export type ReadPacked<Weight, Packed extends PackedRows> = (
  reading: TensorReading,
  names: readonly string[],
  weights: readonly Weight[],
) => Promise<Packed>;

/** A count of all weights. */
export function total<Weight>(weights: readonly Weight[], countOf: (weight: Weight) => number): number {
  return weights.reduce((sum, weight) => sum + countOf(weight), 0);
}
