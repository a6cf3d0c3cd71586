import type { DecoderArchitecture, DecoderNames } from '../architecture.js';
import { type DecoderDefaults, readDecoderConfig } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family, FamilySource } from './family.js';

const GLM_NAMES: DecoderNames = { ...LLAMA_NAMES, gateUp: ['mlp.gate_up_proj'] };

/**
 * GLM-4 of 2024 (arXiv:2406.12793): biases of q, k and v; half of each head rotates, in neighbouring pairs; transformers'
 * `GlmConfig`.
 */
export const glm: Family<DecoderArchitecture> = {
  covers: 'half of each head rotates, in neighbouring pairs; gate and up are `gate_up_proj`',
  gguf: { architecture: 'chatglm', activation: 'silu', headsFillHidden: true, biases: ['queryKeyValue'] },
  readArchitecture: (source) => readGlm(source, { family: 'glm', causalLm: 'GlmForCausalLM', names: GLM_NAMES }),
  layout: decoderLayout,
};

/** GLM-4-0414 and GLM-Z1: GLM with norms after attention and MLP, too; transformers' `Glm4Config`. */
export const glm4: Family<DecoderArchitecture> = {
  covers: 'as `glm`, with norms after attention and MLP',
  gguf: { architecture: 'glm4', activation: 'silu', biases: ['queryKeyValue'] },
  readArchitecture: (source) =>
    readGlm(source, {
      family: 'glm4',
      causalLm: 'Glm4ForCausalLM',
      names: {
        ...GLM_NAMES,
        attentionBranchNorm: 'post_self_attn_layernorm',
        mlpBranchNorm: 'post_mlp_layernorm',
      },
    }),
  layout: decoderLayout,
};

function readGlm(
  source: FamilySource,
  own: Pick<DecoderDefaults, 'family' | 'causalLm' | 'names'>,
): DecoderArchitecture {
  const decoder = readDecoderConfig(source, {
    ...own,
    maxPositions: 131_072,
    bosTokenId: null,
    eosTokenIds: [151_329, 151_336, 151_338],
    normEpsilon: { fallback: 1.5625e-7 },
    keyValueHeadCount: 2,
    headDim: 128,
    rope: { partialRotaryFactor: 0.5, interleaved: true },
  });
  const queryKeyValue = source.config.flag('attention_bias', true);
  return { ...decoder, bias: { queryKeyValue, attentionOutput: false, mlp: false } };
}
