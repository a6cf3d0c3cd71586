import { checkLinearAttention, linearAttentionSettings } from '../linear-attention.js';
import type { GgufFamily } from './gguf-family.js';
import { checkOneRope } from './one-rope.js';

/** Qwen3.5: linear attention in some layers. */
export const qwen35: GgufFamily = {
  architecture: 'qwen35',
  activation: 'silu',
  biases: [],
  mlpNorm: 'post_attention_norm',
  settings: linearAttentionSettings,
  check(architecture, refuseIf) {
    checkLinearAttention(architecture, refuseIf);
    checkOneRope(architecture, refuseIf);
  },
};
