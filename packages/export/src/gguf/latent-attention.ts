import { type DecoderArchitecture, type LatentAttention, mixersOf } from '@lorasmith/model-folder';
import type { LayerPart } from './layer-part.js';
import { float, type RefuseIf, type Setting, uint } from './metadata-setting.js';

/**
 * The parts of latent attention by their names in GGUF (`DeepseekV2Model.modify_tensors` in llama.cpp's conversion/deepseek.py). Keys
 * and values are computed from the latent: the projection of each head is two matrices, of which that of keys is transposed.
 */
export function latentAttentionParts(
  { plainDim, valueDim }: LatentAttention,
  { names, headCount: heads }: DecoderArchitecture,
): LayerPart[] {
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
export function latentHeadSettings(own: LatentAttention): Setting[] {
  const { queryRank, keyValueRank, plainDim, rotaryDim, valueDim } = own;
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

/** The latent attention of a family that has it in all layers, with the same settings. */
export function latentIn(architecture: DecoderArchitecture): LatentAttention {
  return mixersOf(architecture, 'latent')[0]!;
}

/**
 * The factor of YaRN on the scores, as a share of its usual magnitude (`mscale_all_dim`); 0: not at all. Files have a tenth of it
 * (`DeepseekV2Model.set_gguf_parameters`). A number of config.json has few digits.
 */
function scoreShare(architecture: DecoderArchitecture): number {
  const [rope] = architecture.ropes;
  if (rope?.scaling?.type !== 'yarn') return 0;
  const { scale, plainDim, rotaryDim } = latentIn(architecture);
  const magnitude = Math.sqrt(scale * Math.sqrt(plainDim + rotaryDim));
  return Number(((magnitude - 1) / (0.1 * Math.log(rope.scaling.factor))).toFixed(6));
}

/** The factor of the scores that llama.cpp computes. */
export function latentScoreScale(architecture: DecoderArchitecture): number {
  const { ropes } = architecture;
  const { plainDim, rotaryDim } = latentIn(architecture);
  const share = scoreShare(architecture);
  const factor = ropes[0]?.scaling?.type === 'yarn' ? ropes[0].scaling.factor : 1;
  return (1 + 0.1 * share * Math.log(factor)) ** 2 / Math.sqrt(plainDim + rotaryDim);
}

/** The factor of the scores where positions are scaled. */
export function latentScoreSettings(architecture: DecoderArchitecture): Setting[] {
  const share = scoreShare(architecture);
  return share === 0 ? [] : [['rope.scaling.yarn_log_multiplier', float(0.1 * share)]];
}

/**
 * Checks that llama.cpp computes the positions.
 *
 * @param shares the values of `mscale_all_dim` with which it keeps queries and keys as long as they are; null: all but 0
 */
export function checkLatentAttention(
  architecture: DecoderArchitecture,
  refuseIf: RefuseIf,
  shares: readonly number[] | null,
): void {
  const [rope] = architecture.ropes;
  refuseIf(!rope!.interleaved, 'heads whose halves rotate (rope_interleave false)');
  const { scaling } = rope!;
  if (scaling === null) return;
  refuseIf(scaling.type !== 'yarn', `RoPE scaling of the type ${scaling.type}`);
  if (scaling.type !== 'yarn') return;
  const share = scoreShare(architecture);
  refuseIf(
    scaling.attentionFactor !== 1 || share === 0 || (shares !== null && !shares.includes(share)),
    `YaRN with mscale_all_dim ${share} and an attention factor of ${scaling.attentionFactor}`,
  );
}
