import type { DecoderArchitecture, Experts, RopeSettings } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { EXPERT_NAMES, MAX_EXPERTS, readPerToken, withExperts } from '../config/experts.js';
import { readLayerTypes, windowsOf, withWindows } from '../config/layer-windows.js';
import { readRope } from '../config/rope.js';
import { decoderLayout } from '../decoder-layout.js';
import { type DecoderNames, LLAMA_NAMES, tensorOfLayer } from '../decoder-names.js';
import { fusedPaths } from '../layer-kinds/sparse.js';
import { isMxfp4, MXFP4_BLOCK } from '../weight-formats/mxfp4.js';
import type { Family, FamilySource } from './family.js';

const NAMES: DecoderNames = {
  ...LLAMA_NAMES,
  sinks: 'self_attn.sinks',
  experts: { ...EXPERT_NAMES, router: 'mlp.router' },
};

const THETA = 150_000;
/** The rotary settings of a config without any, as transformers has them. */
const USUAL_ROPE: RopeSettings = {
  theta: THETA,
  partialRotaryFactor: 1,
  interleaved: false,
  scaling: {
    ...{ type: 'yarn', factor: 32, originalMaxPositions: 4096, betaFast: 32, betaSlow: 1, truncate: false },
    attentionFactor: 0.1 * Math.log(32) + 1,
  },
};

/** The factor in `x · sigmoid(1.702 x)`, which the kernels have. */
const ALPHA = 1.702;

/**
 * gpt-oss (arXiv:2508.10925): attention sinks, a window in every second layer, YaRN; in every layer experts with biases and a clamped
 * unit, whose files are in MXFP4 or bfloat16; transformers' `GptOssConfig`.
 */
export const gptOss: Family<DecoderArchitecture> = {
  covers: 'gpt-oss 20B and 120B: attention sinks; experts with biases, in MXFP4 or as floats',
  readArchitecture(source) {
    const { config } = source;
    const hasRope = config.has('rope_parameters') || config.has('rope_scaling');
    const layerCount = readLayerCount(source, 'num_hidden_layers');
    const decoder = readDecoderConfig(source, {
      family: 'gpt_oss',
      causalLm: 'GptOssForCausalLM',
      names: NAMES,
      vocabSize: 201_088,
      maxPositions: 131_072,
      bosTokenId: null,
      eosTokenIds: [],
      intermediateSize: 2880,
      headCount: 64,
      keyValueHeadCount: 8,
      headDim: 64,
      normEpsilon: { fallback: 1e-5 },
      readRopes: (context) =>
        new Array(layerCount).fill(hasRope ? readRope(config, { ...context, theta: THETA }) : USUAL_ROPE),
    });
    checkActivation(config);
    const types = readLayerTypes(config, layerCount, (layer) =>
      layer % 2 === 0 ? 'sliding_attention' : 'full_attention',
    );
    const bias = config.flag('attention_bias', true);
    return {
      ...decoder,
      layers: withExperts(
        withWindows(decoder.layers, windowsOf(config, types, config.sizeOrNull('sliding_window', 128))),
        readExperts(source, decoder),
      ),
      mlp: { gated: true, activation: 'quick_gelu', clampedAt: config.positiveNumber('swiglu_limit', 7) },
      bias: { queryKeyValue: bias, attentionOutput: bias, mlp: false },
    };
  },
  readsMxfp4: true,
  layout: decoderLayout,
};

/** @throws ProductError model_not_supported for another unit than that of gpt-oss */
function checkActivation(config: ConfigFields): void {
  if (config.positiveNumber('swiglu_alpha', ALPHA) !== ALPHA) {
    throw config.unsupported('swiglu_alpha', `is not supported; ${ALPHA} is`);
  }
  // transformers' experts have their own unit, whatever it says.
  if ((config.text('hidden_act') ?? 'silu') !== 'silu')
    throw config.unsupported('hidden_act', 'is not supported; silu is');
}

/**
 * Its experts. The router's weights are the softmax of the logits of those that are chosen.
 * @throws ProductError model_file_corrupt, model_not_supported
 */
function readExperts(
  source: FamilySource,
  { layers, names, intermediateSize, hiddenSize }: DecoderArchitecture,
): Experts {
  const { config } = source;
  const count = config.size('num_local_experts', { fallback: 128, max: MAX_EXPERTS });
  const perToken = readPerToken(config, count, { fallback: 4 });
  const parametersOf = (layer: number) => fusedPaths(names).map((path) => tensorOfLayer(names, layer, path));
  const isPacked = layers.some((_, layer) => parametersOf(layer).some((name) => isMxfp4(source.hasTensor, name)));
  for (const [field, size] of Object.entries({ hidden_size: hiddenSize, intermediate_size: intermediateSize })) {
    if (!isPacked || size % MXFP4_BLOCK === 0) continue;
    throw config.corrupt(field, `${size} is not a multiple of ${MXFP4_BLOCK}, as it must be for weights in MXFP4`);
  }
  return {
    count,
    perToken,
    intermediateSize,
    renormalized: true,
    biases: true,
    shared: null,
    files: isPacked ? 'mxfp4' : 'transposed',
  };
}
