import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig, withScale, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';
import { fullEvery, readLayerTypes, windowsOf } from './layer-windows.js';
import { readRopeByType } from './rope.js';

/**
 * The language model of Gemma 3 (arXiv:2503.19786): Gemma 2 with norms of queries and keys and without caps; five layers
 * with a window to one without, and other rotary settings for each kind; transformers' `Gemma3TextConfig`.
 */
export const gemma3Text: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const { config } = source;
    if (config.flag('use_bidirectional_attention', false)) {
      throw config.unsupported('use_bidirectional_attention', 'is not supported: attention is causal');
    }
    const typesOf = (layerCount: number) =>
      readLayerTypes(config, layerCount, fullEvery(config.size('sliding_window_pattern', { fallback: 6 })));
    const decoder = readDecoderConfig(source, {
      family: 'gemma3_text',
      causalLm: 'Gemma3ForCausalLM',
      names: {
        ...LLAMA_NAMES,
        queryNorm: 'self_attn.q_norm',
        keyNorm: 'self_attn.k_norm',
        attentionBranchNorm: 'post_attention_layernorm',
        mlpNorm: 'pre_feedforward_layernorm',
        mlpBranchNorm: 'post_feedforward_layernorm',
      },
      vocabSize: 262_208,
      maxPositions: 131_072,
      bosTokenId: 2,
      eosTokenIds: [1],
      headCount: 8,
      keyValueHeadCount: 4,
      headDim: 256,
      activation: { field: 'hidden_activation', fallback: 'gelu_pytorch_tanh' },
      tiedHead: true,
      readRopes: (context) => {
        const ropes = readRopeByType(config, context, {
          full_attention: { field: 'rope_theta', fallback: 1_000_000 },
          sliding_attention: { field: 'rope_local_base_freq', fallback: 10_000 },
        });
        return typesOf(context.layerCount).map((type) => ropes[type]);
      },
    });
    const scale = config.positiveNumber('query_pre_attn_scalar', 256) ** -0.5;
    const windows = windowsOf(config, typesOf(decoder.layerCount), config.sizeOrNull('sliding_window', 4096));
    const bias = config.flag('attention_bias', false);
    return {
      ...decoder,
      embeddingScale: Math.sqrt(decoder.hiddenSize),
      norm: { ...decoder.norm, weightOffset: 1 },
      attention: {
        ...withScale(withWindows(decoder.attention, windows), scale),
        softcap: config.has('attn_logit_softcapping') ? config.positiveNumber('attn_logit_softcapping') : null,
      },
      bias: { queryKeyValue: bias, attentionOutput: bias, mlp: false },
      logitSoftcap: config.has('final_logit_softcapping') ? config.positiveNumber('final_logit_softcapping') : null,
    };
  },
  layout: decoderLayout,
};
