import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  type AttentionSettings,
  alias,
  dispose,
  type FusedAttentionInputs,
  fusedAttention,
  fusedAttentionGradient,
  fusedOpsEnabled,
  type Tensor,
  tensorOf,
} from '@lorasmith/tensor';
import { groupedAttention, groupedAttentionGradient, type SavedGroup } from './grouped-attention.js';
import type { Rotary } from './rotary.js';
import { groupRows, type RowGroup } from './row-groups.js';

/** What attention needs to know of the rows of a batch. Made once per batch, used by every layer. */
export type RowLayout =
  | ({ kind: 'fused' } & Omit<FusedAttentionInputs, 'qkv'>)
  | { kind: 'grouped'; groups: RowGroup[] };

/** What attention keeps for its backward pass. */
export type SavedAttention =
  | { kind: 'fused'; qkv: Tensor; output: Tensor; logSums: Tensor }
  | { kind: 'grouped'; groups: SavedGroup[] };

/**
 * @param rowLengths in the order of the stream; rows of like length should be neighbours
 * @param windows what the layers have as their window
 * @param span as {@link Rotary} has it
 */
export function layoutRows(
  rowLengths: readonly number[],
  rotary: Rotary,
  windows: readonly (number | null)[] = [null],
  span: number = Math.max(...rowLengths),
): RowLayout {
  if (!fusedOpsEnabled()) return { kind: 'grouped', groups: groupRows(rowLengths, rotary, windows, span) };
  const offsets = new Int32Array(rowLengths.length + 1);
  for (const [row, length] of rowLengths.entries()) offsets[row + 1] = offsets[row]! + length;
  const table = rotary.halfTable(Math.max(...rowLengths), span);
  return { kind: 'fused', offsets: tensorOf(offsets, [offsets.length]), ...table };
}

/** Attention as one layer of an architecture has it. */
export function attentionSettings(architecture: DecoderArchitecture, layer: number): AttentionSettings {
  const { headCount, keyValueHeadCount, headDim, attention: shared } = architecture;
  const { scale, window } = shared.layers[layer]!;
  return { heads: headCount, keyValueHeads: keyValueHeadCount, headDim, scale, window, softcap: shared.softcap };
}

/**
 * Causal grouped-query attention within each row (arXiv:2305.13245), with rotary positions.
 * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`: queries, keys and values of each token
 * @returns output `[tokens, heads × headDim]`; saved is null without `record`
 */
export function attention(
  qkv: Tensor,
  layout: RowLayout,
  settings: AttentionSettings,
  record: boolean,
): { output: Tensor; saved: SavedAttention | null } {
  if (layout.kind === 'grouped') {
    const { output, saved } = groupedAttention(qkv, layout.groups, settings, record);
    return { output, saved: record ? { kind: 'grouped', groups: saved } : null };
  }
  const [output, logSums] = fusedAttention({ ...layout, qkv }, settings);
  if (record) return { output, saved: { kind: 'fused', qkv: alias(qkv), output: alias(output), logSums } };
  logSums.dispose();
  return { output, saved: null };
}

/**
 * Gradient of {@link attention} by qkv. Frees what was saved.
 * @param gradient `[tokens, heads × headDim]`
 * @returns `[tokens, (heads + 2 × keyValueHeads) × headDim]`
 */
export function attentionGradient(
  gradient: Tensor,
  saved: SavedAttention,
  layout: RowLayout,
  settings: AttentionSettings,
): Tensor {
  if (saved.kind === 'grouped' && layout.kind === 'grouped') {
    return groupedAttentionGradient(gradient, saved.groups, layout.groups, settings);
  }
  if (saved.kind === 'grouped' || layout.kind === 'grouped')
    throw new Error('forward and backward differ in their layout');
  const { qkv, output, logSums } = saved;
  const result = fusedAttentionGradient(gradient, { ...layout, qkv }, output, logSums, settings);
  dispose(saved);
  return result;
}
