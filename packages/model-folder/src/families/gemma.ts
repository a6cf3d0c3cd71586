import type { DecoderArchitecture } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { attentionBias, type DecoderDefaults, readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import {
  fullEvery,
  type LayerType,
  readLayerTypes,
  windowsOf,
  withScale,
  withWindows,
} from '../config/layer-windows.js';
import { readRopesByType } from '../config/rope.js';
import { decoderLayout } from '../decoder-layout.js';
import { type DecoderNames, LLAMA_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

const NAMES: DecoderNames = {
  ...LLAMA_NAMES,
  attentionBranchNorm: 'post_attention_layernorm',
  mlpNorm: 'pre_feedforward_layernorm',
  mlpBranchNorm: 'post_feedforward_layernorm',
};

/** The names of Gemma 2, with norms of queries and keys. */
export const GEMMA3_NAMES: DecoderNames = {
  ...NAMES,
  queryNorm: 'self_attn.q_norm',
  keyNorm: 'self_attn.k_norm',
};

/**
 * Gemma 2 (arXiv:2408.00118): norms before and after each part of a layer, soft-capped scores and logits, a window in every
 * second layer; transformers' `Gemma2Config`.
 */
export const gemma2: Family<DecoderArchitecture> = {
  covers: 'with capped scores and logits',
  readArchitecture(source) {
    checkCausal(source.config);
    const own = { family: 'gemma2', causalLm: 'Gemma2ForCausalLM', names: NAMES, maxPositions: 8192 } as const;
    return readGemma(source, own, { types: readTypes(source, 2), softcaps: { scores: 50, logits: 30 } });
  },
  layout: decoderLayout,
};

/**
 * The language model of Gemma 3 (arXiv:2503.19786): Gemma 2 with norms of queries and keys and without caps; five layers
 * with a window to one without, and other rotary settings for each kind; transformers' `Gemma3TextConfig`.
 */
export const gemma3Text: Family<DecoderArchitecture> = {
  covers: 'Gemma 3 270M and 1B: full attention and windows with rotary settings of their own',
  readArchitecture(source) {
    const { config } = source;
    checkCausal(config);
    const types = readTypes(source, config.size('sliding_window_pattern', { fallback: 6 }));
    const own: GemmaDefaults = {
      family: 'gemma3_text',
      causalLm: 'Gemma3ForCausalLM',
      names: GEMMA3_NAMES,
      vocabSize: 262_208,
      maxPositions: 131_072,
      headCount: 8,
      readRopes: (context) =>
        readRopesByType(config, context, types, {
          full_attention: { field: 'rope_theta', fallback: 1_000_000 },
          sliding_attention: { field: 'rope_local_base_freq', fallback: 10_000 },
        }),
    };
    return readGemma(source, own, { types, softcaps: { scores: null, logits: null } });
  },
  layout: decoderLayout,
};

/** The defaults in which the Gemmas differ. */
type GemmaDefaults = Pick<
  DecoderDefaults,
  'family' | 'causalLm' | 'names' | 'vocabSize' | 'maxPositions' | 'headCount' | 'readRopes'
>;

interface GemmaLayers {
  types: readonly LayerType[];
  /** The caps of a config without them; null: none. */
  softcaps: { scores: number | null; logits: number | null };
}

/** @throws ProductError model_not_supported */
function checkCausal(config: ConfigFields): void {
  if (config.flag('use_bidirectional_attention', false)) {
    throw config.unsupported('use_bidirectional_attention', 'is not supported: attention is causal');
  }
}

function readTypes(source: FamilySource, period: number): LayerType[] {
  return readLayerTypes(source.config, readLayerCount(source, 'num_hidden_layers'), fullEvery(period));
}

function readGemma(source: FamilySource, own: GemmaDefaults, { types, softcaps }: GemmaLayers): DecoderArchitecture {
  const { config } = source;
  const decoder = readDecoderConfig(source, {
    ...own,
    bosTokenId: 2,
    eosTokenIds: [1],
    keyValueHeadCount: 4,
    headDim: 256,
    activation: { field: 'hidden_activation', fallback: 'gelu_pytorch_tanh' },
    tiedHead: true,
  });
  const scale = 1 / Math.sqrt(config.positiveNumber('query_pre_attn_scalar', 256));
  const windows = windowsOf(config, types, config.sizeOrNull('sliding_window', 4096));
  return {
    ...decoder,
    embeddingScale: Math.sqrt(decoder.hiddenSize),
    norm: { ...decoder.norm, weightOffset: 1 },
    attention: {
      ...decoder.attention,
      softcap: config.positiveNumberOrNull('attn_logit_softcapping', softcaps.scores),
    },
    layers: withScale(withWindows(decoder.layers, windows), scale),
    bias: { ...attentionBias(config), mlp: false },
    logitSoftcap: config.positiveNumberOrNull('final_logit_softcapping', softcaps.logits),
  };
}
