import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { expertsIn, firstSparse } from '../experts.js';
import { bool, float, type Setting, uint } from '../metadata-setting.js';

/** `llama_expert_gating_func_type` */
const SOFTMAX = 1;
const SIGMOID = 2;

/** The settings of experts behind dense layers, with an expert that all tokens pass. A router that scores by sigmoid has groups. */
export function routedExpertSettings(architecture: DecoderArchitecture): Setting[] {
  const { intermediateSize, renormalized, sigmoid, shared } = expertsIn(architecture)!;
  const { groups, groupsPerToken, scale } = sigmoid ?? { groups: 1, groupsPerToken: 1, scale: 1 };
  return [
    ['expert_shared_count', uint(shared!.intermediateSize / intermediateSize)],
    ['leading_dense_block_count', uint(firstSparse(architecture))],
    ['expert_gating_func', uint(sigmoid === undefined ? SOFTMAX : SIGMOID)],
    ['expert_weights_scale', float(scale)],
    ['expert_weights_norm', bool(renormalized)],
    ['expert_group_count', uint(groups)],
    ['expert_group_used_count', uint(groupsPerToken)],
  ];
}
