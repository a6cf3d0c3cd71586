import type { DecoderArchitecture } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';
import { readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';
import { readLayerTypes, windowsOf } from './layer-windows.js';
import { readRope } from './rope.js';

/** SmolLM3: Llama without positions in every fourth layer (NoPE, arXiv:2501.18795); transformers' `SmolLM3Config`. */
export const smollm3: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const { config } = source;
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
        return readHasRope(config, context.layerCount).map((hasRope) => (hasRope ? rope : null));
      },
    });
    const hasRope = readHasRope(config, decoder.layerCount);
    const window =
      config.flag('use_sliding_window', false) && config.has('sliding_window') ? config.size('sliding_window') : null;
    const types = readLayerTypes(config, decoder.layerCount, (layer) =>
      window !== null && !hasRope[layer] ? 'sliding_attention' : 'full_attention',
    );
    const attention = config.flag('attention_bias', false);
    const mlp = config.flag('mlp_bias', false);
    return {
      ...decoder,
      attention: withWindows(decoder.attention, windowsOf(config, types, window)),
      bias: { queryKeyValue: attention, attentionOutput: attention, mlp },
    };
  },
  layout: decoderLayout,
};

/** `no_rope_layers` has 0 for a layer without positions; without the field, every `no_rope_layer_interval`th has none. */
function readHasRope(config: ConfigFields, layerCount: number): boolean[] {
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
