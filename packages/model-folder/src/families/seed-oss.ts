import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig } from '../config/decoder-config.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

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
