import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { readLayerTypes, windowsOf, withWindows } from '../config/layer-windows.js';
import { readRope } from '../config/rope.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

/** SmolLM3: Llama without positions in every fourth layer (NoPE, arXiv:2501.18795); transformers' `SmolLM3Config`. */
export const smollm3: Family<DecoderArchitecture> = {
  covers: 'layers without positions',
  readArchitecture(source) {
    const { config } = source;
    const hasRope = readHasRope(source);
    const decoder = readDecoderConfig(source, {
      family: 'smollm3',
      causalLm: 'SmolLM3ForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 32_768,
      bosTokenId: 128_000,
      eosTokenIds: [128_001],
      keyValueHeadCount: 4,
      tiedHead: true,
      rope: { theta: 2_000_000 },
      readRopes: (context) => {
        const rope = readRope(config, context);
        return hasRope.map((has) => (has ? rope : null));
      },
    });
    const window = config.flag('use_sliding_window', false) ? config.sizeOrNull('sliding_window', null) : null;
    const types = readLayerTypes(config, decoder.layerCount, (layer) =>
      window !== null && !hasRope[layer] ? 'sliding_attention' : 'full_attention',
    );
    return {
      ...decoder,
      layers: withWindows(decoder.layers, windowsOf(config, types, window)),
      bias: { ...attentionBias(config), mlp: config.flag('mlp_bias', false) },
    };
  },
  layout: decoderLayout,
};

/** `no_rope_layers` has 0 for a layer without positions; without the field, every `no_rope_layer_interval`th has none. */
function readHasRope(source: FamilySource): boolean[] {
  const { config } = source;
  const layerCount = readLayerCount(source, 'num_hidden_layers');
  const flags = config.value('no_rope_layers');
  if (flags === undefined) {
    const interval = config.size('no_rope_layer_interval', { fallback: 4 });
    return Array.from({ length: layerCount }, (_, layer) => (layer + 1) % interval !== 0);
  }
  if (!Array.isArray(flags) || flags.length !== layerCount || !flags.every((flag) => flag === 0 || flag === 1)) {
    throw config.corrupt('no_rope_layers', `must list 0 or 1 for each of the ${layerCount} layers`);
  }
  return flags.map((flag) => flag === 1);
}
