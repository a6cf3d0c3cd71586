import type { GgufFamily } from './gguf-family.js';
import { routedExpertSettings } from './routed-experts.js';

/** GLM 4.5 to 4.7 with experts (`Glm4MoeModel` in llama.cpp's conversion/glm.py): a router that scores by sigmoid, in groups. */
export const glm4Moe: GgufFamily = {
  architecture: 'glm4moe',
  activation: 'silu',
  biases: ['queryKeyValue'],
  mlpNorm: 'post_attention_norm',
  experts: { renormalized: null, firstDense: true },
  settings: routedExpertSettings,
};
