import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig } from '../config/decoder-config.js';
import { withWindows } from '../config/layer-windows.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

/**
 * Phi-3, 3.5 and 4 (arXiv:2404.14219): fused q, k, v and fused gate and up; transformers' `Phi3Config`. As for every base
 * model, its dropout (`resid_pdrop`, `embd_pdrop`) is not applied.
 */
export const phi3: Family<DecoderArchitecture> = {
  covers: 'Phi-3, 3.5 and 4; q, k and v in one layer (`qkv_proj`), gate and up in one (`gate_up_proj`)',
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'phi3',
      causalLm: 'Phi3ForCausalLM',
      names: { ...LLAMA_NAMES, queryKeyValue: ['self_attn.qkv_proj'], gateUp: ['mlp.gate_up_proj'] },
      maxPositions: 4096,
      bosTokenId: 1,
      eosTokenIds: [32_000],
      normEpsilon: { fallback: 1e-5 },
      dropout: { fields: ['attention_dropout', 'resid_pdrop', 'embd_pdrop'], fallback: 0 },
      rope: {
        partialRotaryFactor: 1,
        originalMaxPositions: 4096,
        // The first releases called longrope "su" and "yarn".
        types: new Map([
          ['default', 'default'],
          ['longrope', 'longrope'],
          ['su', 'longrope'],
          ['yarn', 'longrope'],
        ]),
      },
    });
    const window = source.config.sizeOrNull('sliding_window', null);
    const windows = decoder.layers.map(() => window);
    return { ...decoder, layers: withWindows(decoder.layers, windows) };
  },
  layout: decoderLayout,
};
