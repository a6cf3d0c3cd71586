import type { DecoderArchitecture } from '../architecture.js';
import { type DecoderDefaults, readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family, FamilySource } from './family.js';
import { fullEvery, readLayerTypes, windowsOf } from './layer-windows.js';
import { readRopeByType } from './rope.js';

const THETA = 500_000;

/** OLMo 2 (arXiv:2501.00656): norms after attention and MLP instead of before them, and of the queries and keys; transformers' `Olmo2Config`. */
export const olmo2: Family<DecoderArchitecture> = {
  readArchitecture: (source) => readOlmo(source, { family: 'olmo2', causalLm: 'Olmo2ForCausalLM' }),
  layout: decoderLayout,
};

/** OLMo 3: OLMo 2 with a window in three of four layers, whose positions are not scaled; transformers' `Olmo3Config`. */
export const olmo3: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const { config } = source;
    const typesOf = (layerCount: number) => readLayerTypes(config, layerCount, fullEvery(4));
    const decoder = readOlmo(source, {
      family: 'olmo3',
      causalLm: 'Olmo3ForCausalLM',
      readRopes: (context) => {
        const ropes = readRopeByType(config, context, {
          full_attention: { field: 'rope_theta', fallback: THETA },
          // As in transformers, which has read the field by then.
          sliding_attention: { field: null, fallback: THETA },
        });
        return typesOf(context.layerCount).map((type) => ropes[type]);
      },
    });
    const windows = windowsOf(config, typesOf(decoder.layerCount), config.sizeOrNull('sliding_window', 4096));
    return { ...decoder, attention: withWindows(decoder.attention, windows) };
  },
  layout: decoderLayout,
};

function readOlmo(
  source: FamilySource,
  own: Pick<DecoderDefaults, 'family' | 'causalLm' | 'readRopes'>,
): DecoderArchitecture {
  const decoder = readDecoderConfig(source, {
    ...own,
    names: {
      ...LLAMA_NAMES,
      attentionNorm: null,
      queryNorm: 'self_attn.q_norm',
      keyNorm: 'self_attn.k_norm',
      attentionBranchNorm: 'post_attention_layernorm',
      mlpNorm: null,
      mlpBranchNorm: 'post_feedforward_layernorm',
    },
    maxPositions: 2048,
    bosTokenId: null,
    eosTokenIds: [50_279],
    normEpsilon: { fallback: 1e-5 },
  });
  const bias = source.config.flag('attention_bias', false);
  return {
    ...decoder,
    attention: { ...decoder.attention, queryKeyNorm: 'projection' },
    bias: { queryKeyValue: bias, attentionOutput: bias, mlp: false },
  };
}
