import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, readDecoderConfig } from '../config/decoder-config.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

/**
 * Nemotron-4 and Minitron (arXiv:2402.16819): layer norms whose weights are offsets from one, max(x, 0)² in an MLP without
 * gate, half of each head rotates; transformers' `NemotronConfig`.
 */
export const nemotron: Family<DecoderArchitecture> = {
  covers: 'as `arcee`, with layer norms; Nemotron 4 and Minitron, not Nemotron-H',
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'nemotron',
      causalLm: 'NemotronForCausalLM',
      names: { ...LLAMA_NAMES, gateUp: ['mlp.up_proj'] },
      maxPositions: 4096,
      bosTokenId: 2,
      eosTokenIds: [3],
      normEpsilon: { field: 'norm_eps', fallback: 1e-5 },
      activation: { field: 'hidden_act', fallback: 'relu2' },
      rope: { partialRotaryFactor: 0.5 },
    });
    const mlp = source.config.flag('mlp_bias', false);
    return {
      ...decoder,
      norm: { ...decoder.norm, kind: 'layer', weightOffset: 1 },
      mlp: { ...decoder.mlp, gated: false },
      bias: { ...attentionBias(source.config), mlp },
    };
  },
  layout: decoderLayout,
};
