import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';

/**
 * Phi-3, 3.5 and 4 (arXiv:2404.14219): q, k, v in one layer, gate and up in one; transformers' `Phi3Config`. Its
 * `resid_pdrop` and `embd_pdrop` are not applied, nor is the dropout of any other base.
 */
export const phi3: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'phi3',
      causalLm: 'Phi3ForCausalLM',
      names: { ...LLAMA_NAMES, queryKeyValue: ['self_attn.qkv_proj'], gateUp: ['mlp.gate_up_proj'] },
      maxPositions: 4096,
      bosTokenId: 1,
      eosTokenIds: [32_000],
      normEpsilon: 1e-5,
      dropout: ['attention_dropout', 'resid_pdrop', 'embd_pdrop'],
      rope: {
        partial: true,
        originalMaxPositions: 4096,
        // Its first releases wrote "su" and "yarn" for what is longrope.
        types: new Map([
          ['default', 'default'],
          ['longrope', 'longrope'],
          ['su', 'longrope'],
          ['yarn', 'longrope'],
        ]),
      },
    });
    const hasWindow = source.config.has('sliding_window');
    const window = hasWindow ? source.config.size('sliding_window') : null;
    const windows = decoder.attention.layers.map(() => window);
    return { ...decoder, attention: withWindows(decoder.attention, windows) };
  },
  layout: decoderLayout,
};
