import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, type DecoderDefaults, readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { fullEvery, readLayerTypes, windowsOf, withWindows } from '../config/layer-windows.js';
import { readRopesByType } from '../config/rope.js';
import { decoderLayout } from '../decoder-layout.js';
import { POST_NORM_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

const THETA = 500_000;

/**
 * OLMo 2 (arXiv:2501.00656): norms after attention and MLP instead of before them, and of the queries and keys; transformers'
 * `Olmo2Config`.
 */
export const olmo2: Family<DecoderArchitecture> = {
  covers: 'norms after attention and MLP, and of all queries and all keys together',
  readArchitecture: (source) => readOlmo(source, { family: 'olmo2', causalLm: 'Olmo2ForCausalLM' }),
  layout: decoderLayout,
};

/** OLMo 3: OLMo 2 with a window in three of four layers, whose positions are not scaled; transformers' `Olmo3Config`. */
export const olmo3: Family<DecoderArchitecture> = {
  covers: 'OLMo 2 with windows',
  readArchitecture(source) {
    const { config } = source;
    const types = readLayerTypes(config, readLayerCount(source, 'num_hidden_layers'), fullEvery(4));
    const decoder = readOlmo(source, {
      family: 'olmo3',
      causalLm: 'Olmo3ForCausalLM',
      readRopes: (context) =>
        readRopesByType(config, context, types, {
          full_attention: { field: 'rope_theta', fallback: THETA },
          // As in transformers, which has read the field by then.
          sliding_attention: { field: null, fallback: THETA },
        }),
    });
    const windows = windowsOf(config, types, config.sizeOrNull('sliding_window', 4096));
    return { ...decoder, layers: withWindows(decoder.layers, windows) };
  },
  layout: decoderLayout,
};

function readOlmo(
  source: FamilySource,
  own: Pick<DecoderDefaults, 'family' | 'causalLm' | 'readRopes'>,
): DecoderArchitecture {
  const decoder = readDecoderConfig(source, {
    ...own,
    names: POST_NORM_NAMES,
    maxPositions: 2048,
    bosTokenId: null,
    eosTokenIds: [50_279],
    normEpsilon: { fallback: 1e-5 },
  });
  return {
    ...decoder,
    attention: { ...decoder.attention, queryKeyNorm: 'projection' },
    bias: { ...attentionBias(source.config), mlp: false },
  };
}
