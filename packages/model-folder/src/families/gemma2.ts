import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig, withScale, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';
import { readLayerTypes, windowsOf } from './layer-windows.js';

/**
 * Gemma 2 (arXiv:2408.00118): norms before and after each part of a layer, soft-capped scores and logits, a window in every
 * second layer; transformers' `Gemma2Config`.
 */
export const gemma2: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const { config } = source;
    const decoder = readDecoderConfig(source, {
      family: 'gemma2',
      causalLm: 'Gemma2ForCausalLM',
      names: {
        ...LLAMA_NAMES,
        attentionBranchNorm: 'post_attention_layernorm',
        mlpNorm: 'pre_feedforward_layernorm',
        mlpBranchNorm: 'post_feedforward_layernorm',
      },
      maxPositions: 8192,
      bosTokenId: 2,
      eosTokenIds: [1],
      keyValueHeadCount: 4,
      headDim: 256,
      activation: { field: 'hidden_activation', fallback: 'gelu_pytorch_tanh' },
      tiedHead: true,
    });
    if (config.flag('use_bidirectional_attention', false)) {
      throw config.unsupported('use_bidirectional_attention', 'is not supported: attention is causal');
    }
    const scale = config.positiveNumber('query_pre_attn_scalar', 256) ** -0.5;
    const types = readLayerTypes(config, decoder.layerCount, (layer) =>
      layer % 2 === 0 ? 'sliding_attention' : 'full_attention',
    );
    const windows = windowsOf(config, types, config.sizeOrNull('sliding_window', 4096));
    const bias = config.flag('attention_bias', false);
    return {
      ...decoder,
      embeddingScale: Math.sqrt(decoder.hiddenSize),
      norm: { ...decoder.norm, weightOffset: 1 },
      attention: {
        ...withScale(withWindows(decoder.attention, windows), scale),
        softcap: config.positiveNumberOrNull('attn_logit_softcapping', 50),
      },
      bias: { queryKeyValue: bias, attentionOutput: bias, mlp: false },
      logitSoftcap: config.positiveNumberOrNull('final_logit_softcapping', 30),
    };
  },
  layout: decoderLayout,
};
