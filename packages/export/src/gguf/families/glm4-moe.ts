import { bool, float, type Setting, uint } from '../metadata-setting.js';
import type { GgufFamily } from './gguf-family.js';

/** `llama_expert_gating_func_type` */
const SIGMOID = 2;

/** GLM 4.5 to 4.7 with experts (`Glm4MoeModel` in llama.cpp's conversion/glm.py): a router that scores by sigmoid, in groups. */
export const glm4Moe: GgufFamily = {
  architecture: 'glm4moe',
  activation: 'silu',
  biases: ['queryKeyValue'],
  mlpNorm: 'post_attention_norm',
  experts: { renormalized: null, firstDense: true },
  settings({ experts }): Setting[] {
    const { layers, intermediateSize, renormalized, sigmoid, shared } = experts!;
    const { groups, groupsPerToken, scale } = sigmoid!;
    return [
      ['expert_shared_count', uint(shared!.intermediateSize / intermediateSize)],
      ['leading_dense_block_count', uint(layers.indexOf(true))],
      ['expert_gating_func', uint(SIGMOID)],
      ['expert_weights_scale', float(scale)],
      ['expert_weights_norm', bool(renormalized)],
      ['expert_group_count', uint(groups)],
      ['expert_group_used_count', uint(groupsPerToken)],
    ];
  },
};
