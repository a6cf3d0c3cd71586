import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, readDecoderConfig } from '../config/decoder-config.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

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
