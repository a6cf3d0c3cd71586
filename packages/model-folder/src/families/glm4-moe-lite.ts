import type { DecoderArchitecture } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';
import { decoderLayout } from './decoder-layout.js';
import { LATENT_NAMES } from './decoder-names.js';
import { ROUTED_EXPERT_NAMES, readRoutedExperts, withExperts } from './experts.js';
import type { Family } from './family.js';
import { readLatentDecoder } from './latent-attention.js';

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

/** Whether each layer has experts: by default all but the first. */
function sparseLayers(config: ConfigFields, layerCount: number): boolean[] {
  const types = config.value('mlp_layer_types');
  if (types === undefined) return Array.from({ length: layerCount }, (_, layer) => layer > 0);
  const isKnown = (type: unknown) => type === 'dense' || type === 'sparse';
  if (Array.isArray(types) && types.length === layerCount && types.every(isKnown)) {
    return types.map((type) => type === 'sparse');
  }
  throw config.corrupt('mlp_layer_types', `must list "dense" or "sparse" for each of the ${layerCount} layers`);
}
