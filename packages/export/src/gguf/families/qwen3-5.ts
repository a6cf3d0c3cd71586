import { checkLinearAttention, checkSections, linearAttentionSettings, sectionSettings } from '../linear-attention.js';
import type { GgufFamily } from './gguf-family.js';
import { checkOneRope } from './one-rope.js';

/** Qwen3.5: linear attention in some layers. */
export const qwen35: GgufFamily = {
  architecture: 'qwen35',
  activation: 'silu',
  biases: [],
  mlpNorm: 'post_attention_norm',
  settings: (architecture) => [...linearAttentionSettings(architecture), ...sectionSettings(architecture)],
  check(architecture, refuseIf) {
    checkLinearAttention(architecture, refuseIf);
    checkSections(architecture, refuseIf);
    checkOneRope(architecture, refuseIf);
  },
};

/** The same with experts. */
export const qwen35Moe: GgufFamily = { ...qwen35, architecture: 'qwen35moe', experts: { renormalized: true } };

/** Qwen3-Next: the same with positions of one kind. */
export const qwen3Next: GgufFamily = {
  ...qwen35Moe,
  architecture: 'qwen3next',
  settings: linearAttentionSettings,
  check(architecture, refuseIf) {
    checkLinearAttention(architecture, refuseIf);
    checkOneRope(architecture, refuseIf);
  },
};
