import type { DecoderArchitecture } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';
import { attentionBias, readDecoderConfig, readLayerCount, withScale } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';

const SETTINGS = { maxPositions: 2048, bosTokenId: 1, eosTokenIds: [2] };

/** Granite 3: Llama with factors of the embeddings, scores, branches and logits; transformers' `GraniteConfig`. */
export const granite: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'granite',
      causalLm: 'GraniteForCausalLM',
      names: LLAMA_NAMES,
      ...SETTINGS,
    });
    const mlp = source.config.flag('mlp_bias', false);
    return withMultipliers(source.config, { ...decoder, bias: { ...decoder.bias, mlp } });
  },
  layout: decoderLayout,
};

/**
 * Granite 4 without Mamba layers and experts (350M, 1B, micro): Granite 3 with gate and up in one layer;
 * transformers' `GraniteMoeHybridConfig`.
 */
export const graniteMoeHybrid: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const { config } = source;
    if (config.count('num_local_experts', 8) !== 0) {
      throw config.unsupported('num_local_experts', 'is not supported: only models without experts are (0)');
    }
    const layerCount = readLayerCount(source, 'num_hidden_layers');
    const decoder = readDecoderConfig(source, {
      family: 'granitemoehybrid',
      causalLm: 'GraniteMoeHybridForCausalLM',
      names: { ...LLAMA_NAMES, gateUp: ['shared_mlp.input_linear'], down: 'shared_mlp.output_linear' },
      ...SETTINGS,
      ...(hasRope(config) ? {} : { readRopes: () => new Array(layerCount).fill(null) }),
    });
    checkLayerTypes(config, layerCount);
    const intermediateSize = config.size('shared_intermediate_size', { fallback: 1024 });
    return withMultipliers(config, { ...decoder, intermediateSize });
  },
  layout: decoderLayout,
};

/** Whether layers have positions: only with `position_embedding_type: "rope"`. */
function hasRope(config: ConfigFields): boolean {
  const type = config.text('position_embedding_type');
  if (type !== undefined && type !== 'rope') {
    throw config.unsupported('position_embedding_type', 'is not supported; rope is, and null for no positions');
  }
  return type === 'rope';
}

function checkLayerTypes(config: ConfigFields, layerCount: number): void {
  const field = config.has('layers_block_type') ? 'layers_block_type' : 'layer_types';
  const types = config.value(field);
  const isAttention = (type: unknown) => type === 'attention' || type === 'full_attention';
  if (Array.isArray(types) && types.length !== layerCount) {
    throw config.corrupt(field, `must list a type for each of the ${layerCount} layers`);
  }
  // As in transformers, all layers are Mamba layers if the field is missing.
  if (!Array.isArray(types) || !types.every(isAttention)) {
    throw config.unsupported(field, 'is not supported: all layers must have attention, Mamba layers are not supported');
  }
}

/** The factors of the config. `attention_multiplier` replaces the usual factor of the scores, 1 / √head_dim. */
function withMultipliers(config: ConfigFields, decoder: DecoderArchitecture): DecoderArchitecture {
  return {
    ...decoder,
    embeddingScale: config.positiveNumber('embedding_multiplier', 1),
    branchScale: config.positiveNumber('residual_multiplier', 1),
    logitScale: 1 / config.positiveNumber('logits_scaling', 1),
    attention: withScale(decoder.attention, config.positiveNumber('attention_multiplier', 1)),
    bias: { ...decoder.bias, ...attentionBias(config) },
  };
}
