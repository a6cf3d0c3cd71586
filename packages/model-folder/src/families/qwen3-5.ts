import type { DecoderArchitecture, LinearAttention } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { attentionBias, type DecoderDefaults, readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { readExperts, SHARED_EXPERT_NAMES } from '../config/experts.js';
import { readLayerTypes } from '../config/layer-windows.js';
import { decoderLayout } from '../decoder-layout.js';
import { type DecoderNames, type LinearAttentionNames, LLAMA_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

const LAYER_TYPES = ['full_attention', 'linear_attention'] as const;
/** Taps of a convolution above any that is known. */
const MAX_TAPS = 64;

const LINEAR_NAMES: LinearAttentionNames = {
  inputs: ['linear_attn.in_proj_qkv', 'linear_attn.in_proj_z', 'linear_attn.in_proj_b', 'linear_attn.in_proj_a'],
  convolution: 'linear_attn.conv1d',
  decayLog: 'linear_attn.A_log',
  timeStepBias: 'linear_attn.dt_bias',
  norm: 'linear_attn.norm',
  output: 'linear_attn.out_proj',
};

const NAMES: DecoderNames = {
  ...LLAMA_NAMES,
  queryNorm: 'self_attn.q_norm',
  keyNorm: 'self_attn.k_norm',
  linearAttention: LINEAR_NAMES,
};

const VOCABULARY_OF_3_5 = 248_320;

/**
 * The language model of Qwen3.5, 3.6 and 3.8: linear attention in three of four layers, attention with a gate and partial rotary
 * positions in the fourth; transformers' `Qwen3_5TextConfig`. The positions of text are the same in all sections of the
 * rotary embedding, so the sections make no difference.
 */
export const qwen35Text: Family<DecoderArchitecture> = {
  covers:
    'the language model of Qwen3.5, 3.6 and 3.8: linear attention in three of four layers, attention with a gate in the fourth',
  readArchitecture: (source) =>
    withSections(
      source.config,
      readQwenHybrid(source, {
        ...{ family: 'qwen3_5_text', causalLm: 'Qwen3_5ForCausalLM', names: NAMES, vocabSize: VOCABULARY_OF_3_5 },
        keyValueHeadCount: 4,
      }),
    ),
  layout: decoderLayout,
};

/** The same with experts in the place of MLPs, one of which all tokens pass; transformers' `Qwen3_5MoeTextConfig`. */
export const qwen35MoeText: Family<DecoderArchitecture> = {
  covers: 'the language model of Qwen3.5 with experts, one of which all tokens pass',
  readArchitecture(source) {
    const decoder = readQwenHybrid(source, {
      family: 'qwen3_5_moe_text',
      causalLm: 'Qwen3_5MoeForCausalLM',
      names: { ...NAMES, experts: SHARED_EXPERT_NAMES },
      vocabSize: VOCABULARY_OF_3_5,
      keyValueHeadCount: 2,
      // All layers are sparse.
      intermediateSize: 512,
    });
    const experts = { count: 256, perToken: 8, intermediateSize: 512, sharedIntermediateSize: 512 };
    return {
      ...withSections(source.config, decoder),
      layers: readExperts(source, decoder, { ...experts, renormalized: 'always' }),
    };
  },
  layout: decoderLayout,
};

/**
 * Qwen3-Next: the same layers with experts, one of which all tokens pass, and the projections of linear attention fused;
 * transformers' `Qwen3NextConfig`.
 */
export const qwen3Next: Family<DecoderArchitecture> = {
  covers: 'Qwen3-Next (80B-A3B): the layers of `qwen3_5_text` with experts, one of which all tokens pass',
  readArchitecture(source) {
    const inputs = ['linear_attn.in_proj_qkvz', 'linear_attn.in_proj_ba'] as const;
    const decoder = readQwenHybrid(source, {
      family: 'qwen3_next',
      causalLm: 'Qwen3NextForCausalLM',
      names: { ...NAMES, linearAttention: { ...LINEAR_NAMES, inputs }, experts: SHARED_EXPERT_NAMES },
      vocabSize: 151_936,
      intermediateSize: 5632,
      keyValueHeadCount: 2,
    });
    const experts = { count: 512, perToken: 10, intermediateSize: 512, sharedIntermediateSize: 512 };
    return { ...decoder, layers: readExperts(source, decoder, { ...experts, renormalized: 'by-default' }) };
  },
  layout: decoderLayout,
};

/** Reads a decoder with linear attention in some layers, and a gate and partial rotary positions in the others. */
function readQwenHybrid(
  source: FamilySource,
  defaults: Pick<
    DecoderDefaults,
    'family' | 'causalLm' | 'names' | 'vocabSize' | 'keyValueHeadCount' | 'intermediateSize'
  >,
): DecoderArchitecture {
  const { config } = source;
  const decoder = readDecoderConfig(source, {
    ...defaults,
    maxPositions: 32_768,
    bosTokenId: null,
    eosTokenIds: [],
    headCount: 16,
    headDim: 256,
    rope: { partialRotaryFactor: 0.25 },
  });
  if (decoder.mlp.activation !== 'silu') {
    throw config.unsupported('hidden_act', 'is not supported: the convolution of linear attention ends with silu');
  }
  const types = readTypes(config, readLayerCount(source, 'num_hidden_layers'));
  const linear = types.includes('linear_attention') ? readLinearAttention(config) : null;
  return {
    ...decoder,
    norm: { ...decoder.norm, weightOffset: 1 },
    attention: { ...decoder.attention, outputGate: 'sigmoid' },
    layers: decoder.layers.map((layer, index) =>
      linear !== null && types[index] === 'linear_attention' ? { ...layer, mixer: linear } : layer,
    ),
    bias: { ...attentionBias(config), mlp: false },
  };
}

function withSections(config: ConfigFields, decoder: DecoderArchitecture): DecoderArchitecture {
  const sections = readSections(config, decoder.headDim);
  return { ...decoder, ropes: decoder.ropes.map((rope) => rope && { ...rope, sections }) };
}

/** The sections of rotary positions; those of transformers where the config has none. */
function readSections(config: ConfigFields, headDim: number): [number, number, number] {
  const parameters = [config.nested('rope_scaling'), config.nested('rope_parameters')];
  const fields = parameters.find((each) => each?.has('mrope_section'));
  const sections = fields?.value('mrope_section') ?? [11, 11, 10];
  const isSize = (value: unknown) =>
    Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= headDim;
  if (fields === undefined || (Array.isArray(sections) && sections.length === 3 && sections.every(isSize))) {
    return sections as [number, number, number];
  }
  throw fields.corrupt('mrope_section', `must be three integers from 0 to head_dim ${headDim}`);
}

function readTypes(config: ConfigFields, layerCount: number): (typeof LAYER_TYPES)[number][] {
  const interval = config.size('full_attention_interval', { fallback: 4 });
  const fallback = (layer: number) => ((layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention');
  return readLayerTypes<(typeof LAYER_TYPES)[number]>(config, layerCount, fallback, LAYER_TYPES);
}

function readLinearAttention(config: ConfigFields): LinearAttention {
  const keyHeadCount = config.size('linear_num_key_heads', { fallback: 16 });
  const valueHeadCount = config.size('linear_num_value_heads', { fallback: 32 });
  if (valueHeadCount % keyHeadCount !== 0) {
    throw config.corrupt(
      'linear_num_value_heads',
      `${valueHeadCount} is not a multiple of linear_num_key_heads ${keyHeadCount}`,
    );
  }
  return {
    kind: 'linear',
    keyHeadCount,
    valueHeadCount,
    keyHeadDim: config.size('linear_key_head_dim', { fallback: 128 }),
    valueHeadDim: config.size('linear_value_head_dim', { fallback: 128 }),
    convolutionTaps: config.size('linear_conv_kernel_dim', { fallback: 4, max: MAX_TAPS }),
  };
}
