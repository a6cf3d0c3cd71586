import type { DecoderArchitecture } from '@lorasmith/model-folder';
import type { LayerPart } from './layer-part.js';
import { type Setting, uint } from './metadata-setting.js';
import type { RefuseIf } from './refuse.js';

/**
 * The parts of latent attention by their names in GGUF (`DeepseekV2Model.modify_tensors` in llama.cpp's conversion/deepseek.py). Keys
 * and values are computed from the latent: the projection of each head is two matrices, of which that of keys is transposed.
 */
export function latentAttentionParts({ names, latentAttention, headCount: heads }: DecoderArchitecture): LayerPart[] {
  const { plainDim, valueDim } = latentAttention!;
  const { query, keyValue } = names.latentAttention!;
  const [first, latent] = names.queryKeyValue as [string, string];
  const ofHead = { heads, size: plainDim + valueDim };
  const keys = { ...ofHead, first: 0, count: plainDim, transposed: true };
  const values = { ...ofHead, first: plainDim, count: valueDim, transposed: false };
  // It multiplies by these without adapters.
  const withoutAdapter = true;
  return [
    { path: first, name: query === null ? 'attn_q' : 'attn_q_a', withoutAdapter },
    { path: query?.norm ?? null, name: 'attn_q_a_norm', isNorm: true },
    { path: query?.projection ?? null, name: 'attn_q_b', withoutAdapter },
    { path: latent, name: 'attn_kv_a_mqa', withoutAdapter },
    { path: keyValue.norm, name: 'attn_kv_a_norm', isNorm: true },
    { path: keyValue.projection, name: 'attn_k_b', ofHeads: keys, withoutAdapter },
    { path: keyValue.projection, name: 'attn_v_b', ofHeads: values, withoutAdapter },
    { path: names.attentionOutput, name: 'attn_output' },
  ];
}

/** The sizes of heads: llama.cpp has one head of keys and values, the latent and the part that turns. */
export function latentHeadSettings({ latentAttention }: DecoderArchitecture): Setting[] {
  const { queryRank, keyValueRank, plainDim, rotaryDim, valueDim } = latentAttention!;
  return [
    ['attention.head_count_kv', uint(1)],
    ['attention.key_length', uint(keyValueRank + rotaryDim)],
    ['attention.value_length', uint(keyValueRank)],
    ['attention.key_length_mla', uint(plainDim + rotaryDim)],
    ['attention.value_length_mla', uint(valueDim)],
    ...(queryRank === null ? [] : [['attention.q_lora_rank', uint(queryRank)] as Setting]),
    ['attention.kv_lora_rank', uint(keyValueRank)],
  ];
}

/** Checks that llama.cpp computes the positions. */
export function checkLatentAttention({ ropes: [rope] }: DecoderArchitecture, refuseIf: RefuseIf): void {
  refuseIf(!rope!.interleaved, 'heads whose halves rotate (rope_interleave false)');
  // It scales the scores by the factor, too.
  refuseIf(rope!.scaling !== null, 'RoPE scaling with the scores of the model');
}
