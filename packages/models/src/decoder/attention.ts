import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { type AttentionSettings, type BatchAttention, type FloatDType, kernelsFor } from '@lorasmith/tensor';
import type { Rotary } from './rotary.js';

export interface AttentionBatch {
  /** In the order of the stream; rows of similar length should be neighbours. */
  rowLengths: readonly number[];
  rotary: Rotary;
  /** Of queries. */
  heads: number;
  /** In which the model computes. */
  dtype: FloatDType;
  /** The windows of the layers. @defaultValue none has one */
  windows?: readonly (number | null)[];
  /** As {@link Rotary} has it. @defaultValue the longest row's length */
  span?: number | undefined;
}

/** Attention over the rows of a batch. Made once per batch, used by every layer. */
export function batchAttention({
  rowLengths,
  heads,
  rotary,
  dtype,
  windows = [null],
  span,
}: AttentionBatch): BatchAttention {
  const positions = Math.max(...rowLengths);
  const angles = rotary.angles(positions, span);
  return kernelsFor(dtype).batchAttention({ lengths: rowLengths, heads, angles, windows });
}

/** Attention as one layer of an architecture has it. */
export function attentionSettings(architecture: DecoderArchitecture, layer: number): AttentionSettings {
  const { headCount, keyValueHeadCount, headDim, attention: shared } = architecture;
  const { scale, window } = shared.layers[layer]!;
  return { heads: headCount, keyValueHeads: keyValueHeadCount, headDim, scale, window, softcap: shared.softcap };
}
