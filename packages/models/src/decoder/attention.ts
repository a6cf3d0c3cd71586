import { type DecoderArchitecture, headsOf, type ScoredAttention } from '@lorasmith/model-folder';
import {
  type AttentionSettings,
  type BatchAttention,
  concat,
  dispose,
  type FloatDType,
  type KernelSet,
  type SavedAttention,
  split,
  type Tensor,
} from '@lorasmith/tensor';
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

/** Some rows of a batch that are next to each other. */
export interface AttentionPart {
  attention: BatchAttention;
  /** Tokens of these rows. */
  tokens: number;
}

/** Attention over a batch whose rows are computed in several parts, since a token sees no other row. */
export function attentionInParts(parts: readonly AttentionPart[]): BatchAttention {
  const sizes = parts.map(({ tokens }) => tokens);
  return {
    forward(qkv, settings, record) {
      const inputs = split(qkv, sizes, 0);
      const results = parts.map(({ attention }, index) => attention.forward(inputs[index]!, settings, record));
      dispose(inputs);
      const output = joined(results.map((result) => result.output));
      return { output, saved: record ? results.map(({ saved }) => saved!) : null };
    },
    backward(gradient, kept, settings) {
      const saved = kept as readonly SavedAttention[];
      const gradients = split(gradient, sizes, 0);
      const byInput = parts.map(({ attention }, index) =>
        attention.backward(gradients[index]!, saved[index]!, settings),
      );
      dispose(gradients);
      return joined(byInput);
    },
  };
}

/** Takes over the tensors. */
function joined(tensors: Tensor[]): Tensor {
  const whole = concat(tensors, 0);
  dispose(tensors);
  return whole;
}
