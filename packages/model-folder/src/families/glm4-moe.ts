import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import { ROUTED_EXPERT_NAMES, readRoutedExperts, sparseAfterFirst, withExperts } from './experts.js';
import type { Family } from './family.js';

/**
 * GLM 4.5, 4.6 and 4.7 with experts (arXiv:2508.06471): partial rotary positions, the first layers without experts, in the others an
 * expert that all tokens pass; transformers' `Glm4MoeConfig`.
 */
export const glm4Moe: Family<DecoderArchitecture> = {
  covers: 'GLM 4.5, 4.6 and 4.7 with experts, whose router scores by sigmoid',
  readArchitecture(source) {
    const { config } = source;
    const normed = config.flag('use_qk_norm', false);
    const decoder = readDecoderConfig(source, {
      family: 'glm4_moe',
      causalLm: 'Glm4MoeForCausalLM',
      names: {
        ...LLAMA_NAMES,
        ...(normed ? { queryNorm: 'self_attn.q_norm', keyNorm: 'self_attn.k_norm' } : {}),
        experts: ROUTED_EXPERT_NAMES,
      },
      vocabSize: 151_552,
      maxPositions: 131_072,
      bosTokenId: null,
      eosTokenIds: [],
      intermediateSize: 10_944,
      headCount: 96,
      keyValueHeadCount: 8,
      normEpsilon: { fallback: 1e-5 },
      rope: { partialRotaryFactor: 0.5 },
    });
    const sparse = sparseAfterFirst(source, decoder.layerCount, 1);
    const experts = readRoutedExperts(source, decoder, sparse, {
      ...{ count: 128, perToken: 8, intermediateSize: 1408, shared: 1 },
      ...{ groups: 1, groupsPerToken: 1, scale: 1, renormalized: true },
    });
    return {
      ...decoder,
      layers: withExperts(decoder.layers, experts, sparse),
      bias: { ...decoder.bias, queryKeyValue: config.flag('attention_bias', false) },
    };
  },
  layout: decoderLayout,
};
