import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig } from '../config/decoder-config.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

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
