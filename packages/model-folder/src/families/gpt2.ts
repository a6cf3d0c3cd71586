import type { DecoderArchitecture } from '../architecture.js';
import { readActivation } from '../config/config-fields.js';
import {
  checkCausalLm,
  dropoutFields,
  headSize,
  readLayerCount,
  readMaxPositions,
  readTokenIds,
} from '../config/decoder-config.js';
import { decoderLayout } from '../decoder-layout.js';
import { type DecoderNames, namesInFiles } from '../decoder-names.js';
import type { Family } from './family.js';

const NAMES: DecoderNames = {
  embedding: 'transformer.wte',
  positions: 'transformer.wpe',
  layers: 'transformer.h',
  finalNorm: 'transformer.ln_f',
  head: 'lm_head',
  attentionNorm: 'ln_1',
  queryKeyValue: ['attn.c_attn'],
  queryNorm: null,
  keyNorm: null,
  attentionOutput: 'attn.c_proj',
  attentionBranchNorm: null,
  mlpNorm: 'ln_2',
  gateUp: ['mlp.c_fc'],
  down: 'mlp.c_proj',
  mlpBranchNorm: null,
  layerInputs: null,
  experts: null,
  layerScale: null,
  sinks: null,
  prefixes: [],
};

/**
 * GPT-2 (Radford et al. 2019): learned positions, layer norms, biases everywhere, an MLP without gate; transformers'
 * `GPT2Config`. As for every base model, its dropout (`resid_pdrop`, `embd_pdrop`, `attn_pdrop`) is not applied.
 */
export const gpt2: Family<DecoderArchitecture> = {
  covers: 'GPT-2; its layers are `c_attn`, `c_proj` and `c_fc`',
  readArchitecture(source) {
    const { config } = source;
    checkCausalLm(source, 'GPT2LMHeadModel');
    if (config.flag('add_cross_attention', false)) {
      throw config.unsupported('add_cross_attention', 'is not supported: the model has no encoder');
    }
    const vocabSize = config.size('vocab_size');
    /** The common name of a size takes precedence over GPT-2's own, as in transformers' `attribute_map`. */
    const named = (own: string, alias: string) => (config.has(alias) ? alias : own);
    const width = named('n_embd', 'hidden_size');
    const hiddenSize = config.size(width);
    const headCount = config.size(named('n_head', 'num_attention_heads'));
    const layerCount = readLayerCount(source, named('n_layer', 'num_hidden_layers'));
    const headDim = headSize(source, width, { hiddenSize, headCount });
    const scale = config.flag('scale_attn_weights', true) ? 1 / Math.sqrt(headDim) : 1;
    const byLayer = config.flag('scale_attn_by_inverse_layer_idx', false);
    return {
      kind: 'decoder',
      family: 'gpt2',
      names: namesInFiles(NAMES, source),
      vocabSize,
      hiddenSize,
      intermediateSize: config.size('n_inner', { fallback: 4 * hiddenSize }),
      layerCount,
      headCount,
      keyValueHeadCount: headCount,
      headDim,
      embeddingScale: 1,
      branchScale: 1,
      logitScale: 1,
      norm: { kind: 'layer', epsilon: config.positiveNumber('layer_norm_epsilon', 1e-5), weightOffset: 0 },
      ropes: [null],
      attention: {
        softcap: null,
        queryGrowth: null,
        queryKeyNorm: 'head',
        valueNorm: null,
        outputGate: null,
      },
      layers: Array.from({ length: layerCount }, (_, layer) => ({
        mixer: { kind: 'attention', scale: byLayer ? scale / (layer + 1) : scale, window: null, rope: 0 },
        mlp: { kind: 'dense' },
      })),
      layerInputs: null,
      mlp: { gated: false, activation: readActivation(config, 'activation_function', 'gelu_new') },
      bias: { queryKeyValue: true, attentionOutput: true, mlp: true },
      transposedWeights: true,
      logitSoftcap: null,
      tiedHead: config.flag('tie_word_embeddings', true),
      maxPositions: readMaxPositions(source, named('n_positions', 'max_position_embeddings'), 1024),
      ignoredDropout: dropoutFields(config, ['attn_pdrop', 'resid_pdrop', 'embd_pdrop'], 0.1),
      ...readTokenIds(source, vocabSize, { bosTokenId: 50_256, eosTokenIds: [50_256] }),
    };
  },
  layout: decoderLayout,
};
