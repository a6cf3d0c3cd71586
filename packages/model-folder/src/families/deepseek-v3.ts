import type { DecoderArchitecture } from '../architecture.js';
import { ROUTED_EXPERT_NAMES, readRoutedExperts, sparseAfterFirst, withExperts } from '../config/experts.js';
import { readLatentDecoder } from '../config/latent-attention.js';
import { decoderLayout } from '../decoder-layout.js';
import { LATENT_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

/**
 * DeepSeek V3 and R1 (arXiv:2412.19437), and models of their structure: latent attention, the first layers without experts, in the
 * others an expert that all tokens pass; transformers' `DeepseekV3Config`.
 */
export const deepseekV3: Family<DecoderArchitecture> = {
  covers:
    'DeepSeek V3 and R1, Moonlight: latent attention, with or without a latent of queries; experts as in `glm4_moe`',
  readArchitecture(source) {
    const decoder = readLatentDecoder(source, {
      family: 'deepseek_v3',
      causalLm: 'DeepseekV3ForCausalLM',
      names: { ...LATENT_NAMES, experts: ROUTED_EXPERT_NAMES },
      vocabSize: 129_280,
      maxPositions: 4096,
      bosTokenId: 0,
      eosTokenIds: [1],
      intermediateSize: 18_432,
      headCount: 128,
      keyValueHeadCount: 128,
      latent: { queryRank: 1536, keyValueRank: 512, plainDim: 128, rotaryDim: 64, valueDim: 128 },
    });
    const sparse = sparseAfterFirst(source, decoder.layerCount, 3);
    const experts = readRoutedExperts(source, decoder, sparse, {
      ...{ count: 256, perToken: 8, intermediateSize: 2048, shared: 1 },
      ...{ groups: 8, groupsPerToken: 4, scale: 2.5, renormalized: true },
    });
    return { ...decoder, layers: withExperts(decoder.layers, experts, sparse) };
  },
  // Of models from before transformers had the family.
  knownCode: new Set(['DeepseekV3Config', 'DeepseekV3Model', 'DeepseekV3ForCausalLM']),
  layout: decoderLayout,
};
