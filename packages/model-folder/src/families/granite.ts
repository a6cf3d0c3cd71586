import type { DecoderArchitecture, Experts } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { attentionBias, type DecoderDefaults, readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { EXPERT_NAMES, readCount, readPerToken, withExperts } from '../config/experts.js';
import { withScale } from '../config/layer-windows.js';
import { decoderLayout } from '../decoder-layout.js';
import { type ExpertNames, LLAMA_NAMES } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

/** The parts in Granite's models, which name the tensors as releases before transformers 5 did. */
const GRANITE_EXPERT_NAMES: ExpertNames = {
  ...EXPERT_NAMES,
  router: 'block_sparse_moe.router.layer',
  experts: 'block_sparse_moe.experts',
  fused: ['block_sparse_moe.input_linear.weight', 'block_sparse_moe.output_linear.weight'],
};

/** The same with the shared expert. */
const GRANITE_SHARED_EXPERT_NAMES: ExpertNames = {
  ...GRANITE_EXPERT_NAMES,
  shared: { gateUp: ['shared_mlp.input_linear'], down: 'shared_mlp.output_linear', gate: null },
};

const SETTINGS = { maxPositions: 2048, bosTokenId: 1, eosTokenIds: [2] };

/** Granite 3: Llama with factors of the embeddings, scores, branches and logits; transformers' `GraniteConfig`. */
export const granite: Family<DecoderArchitecture> = {
  covers: 'Granite 3: factors of embeddings, scores, branches and logits',
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

/** Granite 3 with experts in the place of MLPs (1B-A400M, 3B-A800M); transformers' `GraniteMoeConfig`. */
export const graniteMoe: Family<DecoderArchitecture> = {
  covers: 'Granite 3 with experts (1B-A400M, 3B-A800M)',
  readArchitecture: (source) =>
    readSparseGranite(source, { family: 'granitemoe', causalLm: 'GraniteMoeForCausalLM' }, null),
  layout: decoderLayout,
};

/** The same with an expert that all tokens pass; transformers' `GraniteMoeSharedConfig`. */
export const graniteMoeShared: Family<DecoderArchitecture> = {
  covers: 'the same with an expert that all tokens pass',
  readArchitecture(source) {
    const shared = source.config.count('shared_intermediate_size', 0);
    const own = { family: 'granitemoeshared', causalLm: 'GraniteMoeSharedForCausalLM' } as const;
    return readSparseGranite(source, own, shared === 0 ? null : shared);
  },
  layout: decoderLayout,
};

/**
 * Granite 4 without Mamba layers: Granite 3 with gate and up in one layer. Without experts (350M, 1B, micro) that is the MLP, with
 * experts the one that all tokens pass; transformers' `GraniteMoeHybridConfig`.
 */
export const graniteMoeHybrid: Family<DecoderArchitecture> = {
  covers:
    'Granite 4 without Mamba layers (350M, 1B, micro), with experts or without; its MLP is `input_linear` and `output_linear`',
  readArchitecture(source) {
    const { config } = source;
    const layerCount = readLayerCount(source, 'num_hidden_layers');
    const decoder = readDecoderConfig(source, {
      family: 'granitemoehybrid',
      causalLm: 'GraniteMoeHybridForCausalLM',
      names: {
        ...LLAMA_NAMES,
        gateUp: ['shared_mlp.input_linear'],
        down: 'shared_mlp.output_linear',
        experts: GRANITE_SHARED_EXPERT_NAMES,
      },
      ...SETTINGS,
      ...(hasRope(config) ? {} : { readRopes: () => new Array(layerCount).fill(null) }),
    });
    checkLayerTypes(config, layerCount);
    const intermediateSize = config.size('shared_intermediate_size', { fallback: 1024 });
    const experts = readGraniteExperts(config, decoder, intermediateSize);
    return withMultipliers(config, { ...decoder, intermediateSize, layers: withExperts(decoder.layers, experts) });
  },
  layout: decoderLayout,
};

/** @param sharedIntermediateSize the width of the shared expert; null: there is none */
function readSparseGranite(
  source: FamilySource,
  own: Pick<DecoderDefaults, 'family' | 'causalLm'>,
  sharedIntermediateSize: number | null,
): DecoderArchitecture {
  const { config } = source;
  const experts = sharedIntermediateSize === null ? GRANITE_EXPERT_NAMES : GRANITE_SHARED_EXPERT_NAMES;
  const decoder = readDecoderConfig(source, { ...own, names: { ...LLAMA_NAMES, experts }, ...SETTINGS });
  const mixture = readGraniteExperts(config, decoder, sharedIntermediateSize);
  if (mixture === null) throw config.unsupported('num_local_experts', 'is not supported: all layers have experts');
  return withMultipliers(config, { ...decoder, layers: withExperts(decoder.layers, mixture) });
}

/** True if layers have positions: only with `position_embedding_type: "rope"`. */
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
    layers: withScale(decoder.layers, config.positiveNumber('attention_multiplier', 1)),
    bias: { ...decoder.bias, ...attentionBias(config) },
  };
}

/**
 * Reads the experts of Granite's models, which are in all layers, fused in all files, and as wide as `intermediate_size`.
 *
 * @param sharedIntermediateSize the width of the shared expert; null: there is none
 * @returns null for a model without experts
 * @throws ProductError model_file_corrupt, model_not_supported
 */
function readGraniteExperts(
  config: ConfigFields,
  decoder: DecoderArchitecture,
  sharedIntermediateSize: number | null,
): Experts | null {
  const count = readCount(config, 8);
  if (count === 0) return null;
  return {
    count,
    perToken: readPerToken(config, count, { fallback: 2 }),
    intermediateSize: decoder.intermediateSize,
    renormalized: true,
    shared: sharedIntermediateSize === null ? null : { intermediateSize: sharedIntermediateSize },
    files: 'fused',
  };
}
