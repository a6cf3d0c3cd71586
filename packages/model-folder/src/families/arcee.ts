import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, readDecoderConfig } from '../config/decoder-config.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

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
