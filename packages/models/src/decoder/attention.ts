import { type DecoderArchitecture, headsOf, type ScoredAttention } from '@lorasmith/model-folder';
import type { AttentionSettings, BatchAttention, FloatDType, KernelSet, Tensor } from '@lorasmith/tensor';
import { attentionInParts } from './attention-in-parts.js';
import type { Rotary } from './rotary.js';

export interface AttentionBatch {
  kernels: KernelSet;
  /** Lengths in the order of the stream; rows of similar length should be neighbours. */
  rowLengths: readonly number[];
  rotary: Rotary;
  /** Number of query heads. */
  heads: number;
  /** The type in which the model computes. */
  dtype: FloatDType;
  /** The windows of the layers with this rotary. @defaultValue none has one */
  windows?: readonly (number | null)[];
}

/**
 * Attention over the rows of a batch. Made once per batch, used by every layer with this rotary. Neighbours whose rope turns
 * by the same angles are computed together.
 */
export function batchAttention({
  kernels,
  rowLengths,
  heads,
  rotary,
  dtype,
  windows = [null],
}: AttentionBatch): BatchAttention {
  const alike: number[][] = [];
  for (const length of rowLengths) {
    const last = alike.at(-1);
    if (last !== undefined && rotary.spanClass(last[0]!) === rotary.spanClass(length)) last.push(length);
    else alike.push([length]);
  }
  const parts = alike.map((lengths) => {
    const angles = rotary.angles(Math.max(...lengths));
    const attention = kernels.of(dtype).batchAttention({ lengths, heads, angles, windows });
    return { attention, tokens: lengths.reduce((sum, length) => sum + length, 0) };
  });
  return parts.length === 1 ? parts[0]!.attention : attentionInParts(parts);
}

/**
 * Attention as one layer of an architecture has it.
 * @param own `sinks`: `[heads]` float32. @defaultValue there are none
 */
export function attentionSettings(
  architecture: DecoderArchitecture,
  layer: number,
  { scale, window, sinks = null }: ScoredAttention & { sinks?: Tensor | null },
): AttentionSettings {
  const { headCount, attention: shared } = architecture;
  const { keyValueHeadCount, headDim } = headsOf(architecture, layer);
  return {
    ...{ heads: headCount, keyValueHeads: keyValueHeadCount, headDim },
    ...{ scale, window, softcap: shared.softcap, sinks: sinks ?? undefined },
  };
}
