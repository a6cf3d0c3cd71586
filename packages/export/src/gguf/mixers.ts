import {
  type DecoderArchitecture,
  headsOf,
  isByKeyHead,
  type LatentAttention,
  type LayerAttention,
  type LinearAttention,
  type LinearAttentionNames,
  type Mixer,
  type MixerOf,
  mixersOf,
} from '@lorasmith/model-folder';
import type { IndexRange, TensorConversion } from '@lorasmith/weight-files';
import { float, ofLayers, type RefuseIf, type Setting, uint } from './metadata-setting.js';

/** A part of a decoder's layer, and how llama.cpp has it. */
export interface LayerPart {
  /** The module, or the tensor of a part that is none, relative to a layer; null where the family lacks it. */
  path: string | null;
  name: string;
  isTensor?: boolean;
  /** True if it is a norm of the residual stream, or of queries or keys. */
  isNorm?: boolean;
  /** True if −exp(number) is written. */
  decays?: boolean;
  rowOrder?: readonly IndexRange[] | undefined;
  columnOrder?: readonly IndexRange[] | undefined;
  /** The rows of each head that it has, as a matrix of its own. @defaultValue it is one matrix */
  ofHeads?: RowsOfHeads;
  /** True if llama.cpp applies no adapter to it. @defaultValue false */
  withoutAdapter?: boolean;
}

/** Some rows of each head of a weight: a matrix in a tensor of three axes. */
export interface RowsOfHeads {
  heads: number;
  /** The rows of a head in the weight. */
  size: number;
  /** The first of those that are written. */
  first: number;
  count: number;
  /** True if `[width, count]` is written. */
  transposed: boolean;
}

/** A tensor of a decoder's layer that is no part of a module. */
export interface LayerTensor {
  /** Name in the weight files. */
  source: string;
  name: string;
  /** The one number of each group of the last axis that is written; undefined: all of them. */
  numberOfEach: TensorConversion['rowOfEach'];
}

/**
 * The parts of latent attention by their names in GGUF (`DeepseekV2Model.modify_tensors` in llama.cpp's conversion/deepseek.py). Keys
 * and values are computed from the latent: the projection of each head is two matrices, of which that of keys is transposed.
 */
function latentAttentionParts(
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
function latentHeadSettings(own: LatentAttention): Setting[] {
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
 * How much YaRN multiplies the scores, as a share of its usual magnitude (`mscale_all_dim`); 0: not at all. Files have a tenth of it
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

/** The number that transformers adds to the sum of squares of a query or key; llama.cpp adds the epsilon of its norms. */
const UNIT_EPSILON = 1e-6;

/**
 * The parts of linear attention by their names in GGUF (`Qwen3_5TextModel` in llama.cpp's conversion/qwen.py). Value heads are in
 * another order there: the first of each key head, then the second of each.
 */
function linearAttentionParts(own: LinearAttention, { names }: DecoderArchitecture): LayerPart[] {
  const paths = names.linearAttention!;
  if (isByKeyHead(names)) return partsByKeyHead(own, paths);
  const { valueHeadDim, keyHeadCount, keyHeadDim } = own;
  const [mixed, gate, beta = null, decay = null] = paths.inputs;
  const queriesAndKeys = { first: 0, count: 2 * keyHeadCount * keyHeadDim };
  const heads = (size: number, first = 0) => valueHeadOrder(own, size, first);
  const values = heads(valueHeadDim, queriesAndKeys.count);
  const ofMixed = values && [queriesAndKeys, ...values];
  return [
    { path: mixed, name: 'attn_qkv', rowOrder: ofMixed },
    { path: gate, name: 'attn_gate', rowOrder: heads(valueHeadDim) },
    { path: beta, name: 'ssm_beta', rowOrder: heads(1) },
    { path: decay, name: 'ssm_alpha', rowOrder: heads(1) },
    { path: paths.convolution, name: 'ssm_conv1d', rowOrder: ofMixed },
    { path: paths.decayLog, name: 'ssm_a', isTensor: true, decays: true, rowOrder: heads(1) },
    { path: paths.timeStepBias, name: 'ssm_dt.bias', isTensor: true, rowOrder: heads(1) },
    { path: paths.norm, name: 'ssm_norm' },
    { path: paths.output, name: 'ssm_out', columnOrder: heads(valueHeadDim) },
  ];
}

/** The same of projections that are fused by key head (`Qwen3NextModel`): value heads stay in their order. */
function partsByKeyHead(own: LinearAttention, paths: LinearAttentionNames): LayerPart[] {
  const { keyHeadCount, keyHeadDim, valueHeadCount, valueHeadDim } = own;
  const [mixedAndGate, betaAndDecay] = paths.inputs;
  const values = (valueHeadCount / keyHeadCount) * valueHeadDim;
  const group = 2 * keyHeadDim + 2 * values;
  const ofEach = (offset: number, count: number): IndexRange[] =>
    Array.from({ length: keyHeadCount }, (_, head) => ({ first: head * group + offset, count }));
  const mixed = [...ofEach(0, keyHeadDim), ...ofEach(keyHeadDim, keyHeadDim), ...ofEach(2 * keyHeadDim, values)];
  return [
    { path: mixedAndGate, name: 'attn_qkv', rowOrder: mixed },
    { path: mixedAndGate, name: 'attn_gate', rowOrder: ofEach(2 * keyHeadDim + values, values) },
    { path: betaAndDecay, name: 'ssm_ba' },
    { path: paths.convolution, name: 'ssm_conv1d' },
    { path: paths.decayLog, name: 'ssm_a', isTensor: true, decays: true },
    { path: paths.timeStepBias, name: 'ssm_dt.bias', isTensor: true },
    { path: paths.norm, name: 'ssm_norm' },
    { path: paths.output, name: 'ssm_out' },
  ];
}

/** The value heads of `size` rows each, behind `first` other rows; undefined: their order stays. */
function valueHeadOrder(
  { keyHeadCount, valueHeadCount }: LinearAttention,
  size: number,
  first: number,
): IndexRange[] | undefined {
  const perKeyHead = valueHeadCount / keyHeadCount;
  if (keyHeadCount === 1 || perKeyHead === 1) return undefined;
  return Array.from({ length: valueHeadCount }, (_, head) => {
    const stored = (head % keyHeadCount) * perKeyHead + Math.floor(head / keyHeadCount);
    return { first: first + stored * size, count: size };
  });
}

/** The settings of linear attention. */
export function linearAttentionSettings(architecture: DecoderArchitecture): Setting[] {
  const [own] = mixersOf(architecture, 'linear');
  const { keyHeadCount, keyHeadDim, valueHeadCount, valueHeadDim, convolutionTaps } = own!;
  const layers = architecture.layers.map(({ mixer }) => mixer.kind === 'linear');
  // For releases that know no layers, but only a period.
  const period = layers.indexOf(false) + 1;
  const isPeriod = period > 0 && layers.every((isLinear, index) => isLinear === ((index + 1) % period !== 0));
  return [
    ['ssm.conv_kernel', uint(convolutionTaps)],
    ['ssm.state_size', uint(keyHeadDim)],
    ['ssm.group_count', uint(keyHeadCount)],
    ['ssm.time_step_rank', uint(valueHeadCount)],
    ['ssm.inner_size', uint(valueHeadCount * valueHeadDim)],
    ['attention.recurrent_layers', { type: 'bools', value: layers }],
    ...(isPeriod ? [['full_attention_interval', uint(period)] as Setting] : []),
  ];
}

/** The sections of rotary positions. */
export function sectionSettings({ ropes }: DecoderArchitecture): Setting[] {
  return [['rope.dimension_sections', { type: 'int32s', value: [...(ropes[0]?.sections ?? []), 0] }]];
}

/** Checks that llama.cpp computes this linear attention. */
export function checkLinearAttention(architecture: DecoderArchitecture, refuseIf: RefuseIf): void {
  const { norm } = architecture;
  const [own] = mixersOf(architecture, 'linear');
  refuseIf(own === undefined, 'layers with attention alone (layer_types)');
  const { keyHeadDim, valueHeadDim } = own!;
  const sizes = `(they are ${keyHeadDim} and ${valueHeadDim})`;
  refuseIf(keyHeadDim !== valueHeadDim, `linear attention whose keys and values have different sizes ${sizes}`);
  const isUsual = Math.abs(norm.epsilon / UNIT_EPSILON - 1) < 1e-6;
  refuseIf(
    !isUsual,
    `rms_norm_eps but ${UNIT_EPSILON}, since it also divides queries and keys of linear attention with it`,
  );
}

/** Checks that llama.cpp gives each pair of rotary dimensions a position. */
export function checkSections({ headDim, ropes: [rope] }: DecoderArchitecture, refuseIf: RefuseIf): void {
  const sections = rope?.sections ?? [];
  const pairs = Math.trunc(headDim * (rope?.partialRotaryFactor ?? 0)) / 2;
  const total = sections.reduce((sum, size) => sum + size, 0);
  // Pairs alternate; one that is beyond its section has no position in llama.cpp, and that of the text in transformers.
  const isBeyond = Array.from({ length: pairs }, (_, pair) => pair % total).some((at) => at >= 3 * sections[at % 3]!);
  refuseIf(
    total === 0 || isBeyond,
    `rotary dimensions in no section (mrope_section is ${sections.join(', ')}, pairs are ${pairs})`,
  );
}

/** A kind of mixer as llama.cpp has it. */
interface GgufMixer<Own extends Mixer> {
  /** Its parts by their names in GGUF. */
  parts(own: Own, architecture: DecoderArchitecture): LayerPart[];
  /** The sizes of heads in a model whose layer with positions is this one. */
  headSettings(own: Own, architecture: DecoderArchitecture, layer: number): Setting[];
}

/** The kinds of mixers. To add one, add a file to this folder and a line here. */
const MIXERS: { readonly [Kind in Mixer['kind']]: GgufMixer<MixerOf<Kind>> } = {
  attention: { parts: attentionParts, headSettings },
  latent: { parts: latentAttentionParts, headSettings: latentHeadSettings },
  // It has no positions: the settings are of the other layers.
  linear: { parts: linearAttentionParts, headSettings },
};

/** The parts of a layer's mixer by their names in GGUF. */
export function mixerParts(architecture: DecoderArchitecture, layer: number): LayerPart[] {
  const { mixer } = architecture.layers[layer]!;
  return (MIXERS[mixer.kind] as GgufMixer<Mixer>).parts(mixer, architecture);
}

/** The sizes of heads in a model whose layer with positions is this one. */
export function mixerHeadSettings(architecture: DecoderArchitecture, layer: number): Setting[] {
  const { mixer } = architecture.layers[layer]!;
  return (MIXERS[mixer.kind] as GgufMixer<Mixer>).headSettings(mixer, architecture, layer);
}

/**
 * The parts of attention by their names in GGUF. Keys and values that a layer reads of another one are not its own, even where the files
 * have some.
 */
function attentionParts(own: LayerAttention, { names }: DecoderArchitecture): LayerPart[] {
  const { keysAreValues = false, keysAndValuesOf } = own;
  const [first, keys = null, values = null] = names.queryKeyValue;
  const hasKeys = keysAndValuesOf === undefined;
  return [
    { path: first!, name: keys === null ? 'attn_qkv' : 'attn_q' },
    { path: hasKeys ? keys : null, name: 'attn_k' },
    { path: hasKeys && !keysAreValues ? values : null, name: 'attn_v' },
    { path: names.queryNorm, name: 'attn_q_norm', isNorm: true },
    { path: hasKeys ? names.keyNorm : null, name: 'attn_k_norm', isNorm: true },
    { path: names.attentionOutput, name: 'attn_output' },
    { path: names.sinks ?? null, name: 'attn_sinks.weight', isTensor: true },
  ];
}

/** The sizes of heads; of keys and values the numbers of all layers. */
function headSettings(_: Mixer, architecture: DecoderArchitecture, layer: number): Setting[] {
  const { headDim } = headsOf(architecture, layer);
  const counts = architecture.layers.map((_, index) => headsOf(architecture, index).keyValueHeadCount);
  return [
    ['attention.head_count_kv', ofLayers(counts)],
    ['attention.key_length', uint(headDim)],
    ['attention.value_length', uint(headDim)],
  ];
}
