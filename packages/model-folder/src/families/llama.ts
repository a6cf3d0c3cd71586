import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { readLayerTypes, windowsOf, withWindows } from '../config/layer-windows.js';
import { readRope } from '../config/rope.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

/** Llama 1 to 3 and models with the same architecture (arXiv:2302.13971); transformers' `LlamaConfig`. */
export const llama: Family<DecoderArchitecture> = {
  covers: 'Llama 1 to 3 and models built like them: grouped-query attention, biases, tied and untied heads',
  gguf: { architecture: 'llama', activation: 'silu', adjacentPairs: true, ropeFactors: ['llama3', 'longrope'] },
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'llama',
      causalLm: 'LlamaForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 2048,
      bosTokenId: 1,
      eosTokenIds: [2],
    });
    const mlp = source.config.flag('mlp_bias', false);
    return { ...decoder, bias: { ...attentionBias(source.config), mlp } };
  },
  layout: decoderLayout,
};

/** Arcee's AFM: Llama with max(x, 0)² in an MLP without gate; transformers' `ArceeConfig`. */
export const arcee: Family<DecoderArchitecture> = {
  covers: 'max(x, 0)² in an MLP without gate (`up_proj`, `down_proj`)',
  gguf: {
    architecture: 'arcee',
    activation: 'relu2',
    adjacentPairs: true,
    biases: ['queryKeyValue'],
    ropeFactors: ['llama3'],
  },
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'arcee',
      causalLm: 'ArceeForCausalLM',
      names: { ...LLAMA_NAMES, gateUp: ['mlp.up_proj'] },
      maxPositions: 4096,
      bosTokenId: 128_000,
      eosTokenIds: [128_001],
      normEpsilon: { fallback: 1e-5 },
      activation: { field: 'hidden_act', fallback: 'relu2' },
    });
    const mlp = source.config.flag('mlp_bias', false);
    return {
      ...decoder,
      mlp: { ...decoder.mlp, gated: false },
      bias: { ...attentionBias(source.config), mlp },
    };
  },
  layout: decoderLayout,
};

/** ERNIE 4.5 without experts: Llama whose heads rotate in neighbouring pairs; transformers' `Ernie4_5Config`. */
export const ernie45: Family<DecoderArchitecture> = {
  covers: 'ERNIE 4.5 without experts; heads rotate in neighbouring pairs',
  gguf: { architecture: 'ernie4_5', activation: 'silu', biases: ['queryKeyValue', 'attentionOutput'] },
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'ernie4_5',
      causalLm: 'Ernie4_5ForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 131_072,
      bosTokenId: 1,
      eosTokenIds: [2],
      normEpsilon: { fallback: 1e-5 },
      keyValueHeadCount: 2,
      headDim: 128,
      tiedHead: true,
      rope: { theta: 500_000, interleaved: true },
    });
    const bias = source.config.flag('use_bias', false);
    return { ...decoder, bias: { queryKeyValue: bias, attentionOutput: bias, mlp: bias } };
  },
  layout: decoderLayout,
};

/**
 * Nemotron-4 and Minitron (arXiv:2402.16819): layer norms whose weights are offsets from one, max(x, 0)² in an MLP without
 * gate, half of each head rotates; transformers' `NemotronConfig`.
 */
export const nemotron: Family<DecoderArchitecture> = {
  covers: 'as `arcee`, with layer norms; Nemotron 4 and Minitron, not Nemotron-H',
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'nemotron',
      causalLm: 'NemotronForCausalLM',
      names: { ...LLAMA_NAMES, gateUp: ['mlp.up_proj'] },
      maxPositions: 4096,
      bosTokenId: 2,
      eosTokenIds: [3],
      normEpsilon: { field: 'norm_eps', fallback: 1e-5 },
      activation: { field: 'hidden_act', fallback: 'relu2' },
      rope: { partialRotaryFactor: 0.5 },
    });
    const mlp = source.config.flag('mlp_bias', false);
    return {
      ...decoder,
      norm: { ...decoder.norm, kind: 'layer', weightOffset: 1 },
      mlp: { ...decoder.mlp, gated: false },
      bias: { ...attentionBias(source.config), mlp },
    };
  },
  layout: decoderLayout,
};

/**
 * Phi-3, 3.5 and 4 (arXiv:2404.14219): fused q, k, v and fused gate and up; transformers' `Phi3Config`. As for every base
 * model, its dropout (`resid_pdrop`, `embd_pdrop`) is not applied.
 */
export const phi3: Family<DecoderArchitecture> = {
  covers: 'Phi-3, 3.5 and 4; q, k and v in one layer (`qkv_proj`), gate and up in one (`gate_up_proj`)',
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'phi3',
      causalLm: 'Phi3ForCausalLM',
      names: { ...LLAMA_NAMES, queryKeyValue: ['self_attn.qkv_proj'], gateUp: ['mlp.gate_up_proj'] },
      maxPositions: 4096,
      bosTokenId: 1,
      eosTokenIds: [32_000],
      normEpsilon: { fallback: 1e-5 },
      dropout: { fields: ['attention_dropout', 'resid_pdrop', 'embd_pdrop'], fallback: 0 },
      rope: {
        partialRotaryFactor: 1,
        originalMaxPositions: 4096,
        // The first releases called longrope "su" and "yarn".
        types: new Map([
          ['default', 'default'],
          ['longrope', 'longrope'],
          ['su', 'longrope'],
          ['yarn', 'longrope'],
        ]),
      },
    });
    const window = source.config.sizeOrNull('sliding_window', null);
    const windows = decoder.layers.map(() => window);
    return { ...decoder, layers: withWindows(decoder.layers, windows) };
  },
  layout: decoderLayout,
};

/**
 * Seed-OSS: Llama with biases of q, k and v; transformers' `SeedOssConfig`. As for every base model, its dropout is not
 * applied.
 */
export const seedOss: Family<DecoderArchitecture> = {
  covers: 'Llama with biases of q, k and v',
  gguf: { architecture: 'seed_oss', activation: 'silu', biases: ['queryKeyValue'], mlpNorm: 'post_attention_norm' },
  readArchitecture(source) {
    const { config } = source;
    const decoder = readDecoderConfig(source, {
      family: 'seed_oss',
      causalLm: 'SeedOssForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 524_288,
      bosTokenId: 0,
      eosTokenIds: [2],
      keyValueHeadCount: 8,
      headDim: 128,
      dropout: { fields: ['attention_dropout', 'residual_dropout'], fallback: 0.1 },
    });
    return {
      ...decoder,
      bias: {
        queryKeyValue: config.flag('attention_bias', true),
        attentionOutput: config.flag('attention_out_bias', false),
        mlp: config.flag('mlp_bias', false),
      },
    };
  },
  layout: decoderLayout,
};

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
