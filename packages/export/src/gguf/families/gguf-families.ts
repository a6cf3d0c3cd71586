import type { DecoderFamily } from '@lorasmith/model-folder';
import { uint } from '../metadata-setting.js';
import { deepseek2, mistral4 } from './deepseek2.js';
import { exaone4 } from './exaone4.js';
import { gemma2, gemma3 } from './gemma.js';
import { gemma4 } from './gemma4.js';
import type { GgufFamily } from './gguf-family.js';
import { glm4Moe } from './glm4-moe.js';
import { gptOss } from './gpt-oss.js';
import { granite, graniteMoe, graniteMoeHybrid } from './granite.js';
import { ministral3 } from './ministral3.js';
import { nemotron } from './nemotron.js';
import { olmo2, olmo3 } from './olmo.js';
import { qwen3Next, qwen35, qwen35Moe } from './qwen3-5.js';
import { smollm3 } from './smollm3.js';

const llama: GgufFamily = {
  architecture: 'llama',
  activation: 'silu',
  adjacentPairs: true,
  ropeFactors: ['llama3', 'longrope'],
};

/** The families that are written as GGUF. */
export const GGUF_FAMILIES: Readonly<Partial<Record<DecoderFamily, GgufFamily>>> = {
  llama,
  mistral: llama,
  ministral3,
  smollm3,
  granite,
  granitemoe: graniteMoe,
  granitemoeshared: graniteMoe,
  granitemoehybrid: graniteMoeHybrid,
  qwen2: { architecture: 'qwen2', activation: 'silu', headsFillHidden: true },
  qwen3: { architecture: 'qwen3', activation: 'silu', biases: [] },
  qwen2_moe: {
    architecture: 'qwen2moe',
    activation: 'silu',
    headsFillHidden: true,
    ownHead: true,
    biases: ['queryKeyValue'],
    experts: { renormalized: false },
  },
  qwen3_moe: { architecture: 'qwen3moe', activation: 'silu', biases: [], experts: { renormalized: true } },
  qwen3_next: qwen3Next,
  qwen3_5_text: qwen35,
  qwen3_5_moe_text: qwen35Moe,
  phi3: {
    architecture: 'phi3',
    activation: 'silu',
    headsFillHidden: true,
    ropeFactors: ['longrope'],
    // 0: llama.cpp would otherwise assume the window of an early release.
    settings: () => [['attention.sliding_window', uint(0)]],
  },
  gemma2,
  gemma3_text: gemma3,
  gemma4_text: gemma4,
  // It has a table of positions.
  gpt2: { architecture: 'gpt2', activation: 'gelu_tanh', check: () => {} },
  olmo2,
  olmo3,
  exaone4,
  arcee: {
    architecture: 'arcee',
    activation: 'relu2',
    adjacentPairs: true,
    biases: ['queryKeyValue'],
    ropeFactors: ['llama3'],
  },
  nemotron,
  ernie4_5: { architecture: 'ernie4_5', activation: 'silu', biases: ['queryKeyValue', 'attentionOutput'] },
  glm: { architecture: 'chatglm', activation: 'silu', headsFillHidden: true, biases: ['queryKeyValue'] },
  glm4: { architecture: 'glm4', activation: 'silu', biases: ['queryKeyValue'] },
  glm4_moe: glm4Moe,
  glm4_moe_lite: deepseek2,
  deepseek_v3: deepseek2,
  mistral4,
  gpt_oss: gptOss,
  seed_oss: {
    architecture: 'seed_oss',
    activation: 'silu',
    biases: ['queryKeyValue'],
    mlpNorm: 'post_attention_norm',
  },
};
