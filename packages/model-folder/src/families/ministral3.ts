import type { DecoderArchitecture, QueryGrowth } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';
import { readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';

/**
 * Ministral 3: Mistral with YaRN, whose queries grow with their position beyond the original context; transformers'
 * `Ministral3Config`.
 */
export const ministral3: Family<DecoderArchitecture> = {
  covers: 'queries that grow beyond the original context',
  readArchitecture(source) {
    const { config } = source;
    const decoder = readDecoderConfig(source, {
      family: 'ministral3',
      causalLm: 'Ministral3ForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 262_144,
      bosTokenId: 1,
      eosTokenIds: [2],
      normEpsilon: { fallback: 1e-5 },
      keyValueHeadCount: 8,
      headDim: 128,
    });
    const window = config.sizeOrNull('sliding_window', null);
    return {
      ...decoder,
      attention: { ...decoder.attention, queryGrowth: readQueryGrowth(config) },
      layers: withWindows(
        decoder.layers,
        decoder.layers.map(() => window),
      ),
    };
  },
  layout: decoderLayout,
};

/** Reads how queries grow with their position. @throws ProductError model_file_corrupt */
export function readQueryGrowth(config: ConfigFields): QueryGrowth {
  const rope = config.nested('rope_parameters');
  if (rope === undefined) throw config.corrupt('rope_parameters', 'is missing');
  return {
    beta: rope.positiveNumber('llama_4_scaling_beta'),
    originalMaxPositions: rope.size('original_max_position_embeddings'),
  };
}
