import {
  type DecoderArchitecture,
  isByKeyHead,
  type LinearAttention,
  type LinearAttentionNames,
  mixersOf,
} from '@lorasmith/model-folder';
import type { IndexRange } from '@lorasmith/weight-files';
import type { LayerPart } from './layer-part.js';
import { type RefuseIf, type Setting, uint } from './metadata-setting.js';

/** The number that transformers adds to the sum of squares of a query or key; llama.cpp adds the epsilon of its norms. */
const UNIT_EPSILON = 1e-6;

/**
 * The parts of linear attention by their names in GGUF (`Qwen3_5TextModel` in llama.cpp's conversion/qwen.py). Value heads are in
 * another order there: the first of each key head, then the second of each.
 */
export function linearAttentionParts(own: LinearAttention, { names }: DecoderArchitecture): LayerPart[] {
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
