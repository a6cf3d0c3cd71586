import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { fullEvery, type LayerType, readLayerTypes, windowsOf, withWindows } from '../config/layer-windows.js';
import { readRope } from '../config/rope.js';
import { decoderLayout } from '../decoder-layout.js';
import { POST_NORM_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

/**
 * EXAONE 4 (arXiv:2507.11407): norms after attention and MLP instead of before them, and of each head's query and key. Where
 * some layers have a window, those without one have no positions; transformers' `Exaone4Config`.
 */
export const exaone4: Family<DecoderArchitecture> = {
  covers: 'norms after attention and MLP; no positions where there is no window',
  readArchitecture(source) {
    const { config } = source;
    const window = config.sizeOrNull('sliding_window', 4096);
    const types = readTypes(source, window);
    const decoder = readDecoderConfig(source, {
      family: 'exaone4',
      causalLm: 'Exaone4ForCausalLM',
      names: POST_NORM_NAMES,
      maxPositions: 2048,
      bosTokenId: 0,
      eosTokenIds: [2],
      normEpsilon: { fallback: 1e-5 },
      keyValueHeadCount: 32,
      readRopes: (context) => {
        const rope = readRope(config, context);
        return types.map((type) => (window === null || type === 'sliding_attention' ? rope : null));
      },
    });
    return { ...decoder, layers: withWindows(decoder.layers, windowsOf(config, types, window)) };
  },
  layout: decoderLayout,
};

function readTypes(source: FamilySource, window: number | null): LayerType[] {
  const { config } = source;
  const layerCount = readLayerCount(source, 'num_hidden_layers');
  if (window === null) return readLayerTypes(config, layerCount, () => 'full_attention');
  const pattern = config.value('sliding_window_pattern');
  // transformers reads "LLLG" in old configs only together with layer_types.
  if (typeof pattern === 'string' && !config.has('layer_types')) {
    throw config.unsupported('sliding_window_pattern', 'is not supported without layer_types; a number is');
  }
  const period = typeof pattern === 'string' ? 1 : config.size('sliding_window_pattern', { fallback: 4 });
  return readLayerTypes(config, layerCount, fullEvery(period));
}
