import type { DecoderArchitecture } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { type DecoderDefaults, readDecoderConfig } from '../config/decoder-config.js';
import { ROUTED_EXPERT_NAMES, readRoutedExperts, sparseAfterFirst, withExperts } from '../config/experts.js';
import { readLatentDecoder } from '../config/latent-attention.js';
import { decoderLayout } from '../decoder-layout.js';
import { type DecoderNames, LATENT_NAMES, LLAMA_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

const GLM_NAMES: DecoderNames = { ...LLAMA_NAMES, gateUp: ['mlp.gate_up_proj'] };

/**
 * GLM-4 of 2024 (arXiv:2406.12793): biases of q, k and v; half of each head rotates, in neighbouring pairs; transformers'
 * `GlmConfig`.
 */
export const glm: Family<DecoderArchitecture> = {
  covers: 'half of each head rotates, in neighbouring pairs; gate and up are `gate_up_proj`',
  gguf: { architecture: 'chatglm', activation: 'silu', headsFillHidden: true, biases: ['queryKeyValue'] },
  readArchitecture: (source) => readGlm(source, { family: 'glm', causalLm: 'GlmForCausalLM', names: GLM_NAMES }),
  layout: decoderLayout,
};

/** GLM-4-0414 and GLM-Z1: GLM with norms after attention and MLP, too; transformers' `Glm4Config`. */
export const glm4: Family<DecoderArchitecture> = {
  covers: 'as `glm`, with norms after attention and MLP',
  gguf: { architecture: 'glm4', activation: 'silu', biases: ['queryKeyValue'] },
  readArchitecture: (source) =>
    readGlm(source, {
      family: 'glm4',
      causalLm: 'Glm4ForCausalLM',
      names: {
        ...GLM_NAMES,
        attentionBranchNorm: 'post_self_attn_layernorm',
        mlpBranchNorm: 'post_mlp_layernorm',
      },
    }),
  layout: decoderLayout,
};

function readGlm(
  source: FamilySource,
  own: Pick<DecoderDefaults, 'family' | 'causalLm' | 'names'>,
): DecoderArchitecture {
  const decoder = readDecoderConfig(source, {
    ...own,
    maxPositions: 131_072,
    bosTokenId: null,
    eosTokenIds: [151_329, 151_336, 151_338],
    normEpsilon: { fallback: 1.5625e-7 },
    keyValueHeadCount: 2,
    headDim: 128,
    rope: { partialRotaryFactor: 0.5, interleaved: true },
  });
  const queryKeyValue = source.config.flag('attention_bias', true);
  return { ...decoder, bias: { queryKeyValue, attentionOutput: false, mlp: false } };
}

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

/** GLM-4.7-Flash: DeepSeek's latent attention and experts, in all layers but those of `mlp_layer_types`; transformers' `Glm4MoeLiteConfig`. */
export const glm4MoeLite: Family<DecoderArchitecture> = {
  covers: 'GLM-4.7-Flash: as `deepseek_v3`',
  readArchitecture(source) {
    const decoder = readLatentDecoder(source, {
      family: 'glm4_moe_lite',
      causalLm: 'Glm4MoeLiteForCausalLM',
      names: { ...LATENT_NAMES, experts: ROUTED_EXPERT_NAMES },
      vocabSize: 154_880,
      maxPositions: 202_752,
      bosTokenId: 0,
      eosTokenIds: [1],
      intermediateSize: 10_240,
      headCount: 20,
      keyValueHeadCount: 20,
      normEpsilon: { fallback: 1e-5 },
      latent: { queryRank: 768, keyValueRank: 512, plainDim: 192, rotaryDim: 64, valueDim: 256 },
    });
    const sparse = sparseLayers(source.config, decoder.layerCount);
    const experts = readRoutedExperts(source, decoder, sparse, {
      ...{ count: 64, perToken: 4, intermediateSize: 1536, shared: 1 },
      ...{ groups: 1, groupsPerToken: 1, scale: 1.8, renormalized: true },
    });
    return { ...decoder, layers: withExperts(decoder.layers, experts, sparse) };
  },
  layout: decoderLayout,
};

/** True for each layer with experts: by default all but the first. */
function sparseLayers(config: ConfigFields, layerCount: number): boolean[] {
  const types = config.value('mlp_layer_types');
  if (types === undefined) return Array.from({ length: layerCount }, (_, layer) => layer > 0);
  const isKnown = (type: unknown) => type === 'dense' || type === 'sparse';
  if (Array.isArray(types) && types.length === layerCount && types.every(isKnown)) {
    return types.map((type) => type === 'sparse');
  }
  throw config.corrupt('mlp_layer_types', `must list "dense" or "sparse" for each of the ${layerCount} layers`);
}
