import { FAMILIES, type FamilyName } from '@lorasmith/model-folder';
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

/** The families of which llama.cpp needs more than data. */
const WITH_CODE: Readonly<Partial<Record<FamilyName, GgufFamily>>> = {
  ministral3,
  smollm3,
  granite,
  granitemoe: graniteMoe,
  granitemoeshared: graniteMoe,
  granitemoehybrid: graniteMoeHybrid,
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
  nemotron,
  glm4_moe: glm4Moe,
  glm4_moe_lite: deepseek2,
  deepseek_v3: deepseek2,
  mistral4,
  gpt_oss: gptOss,
};

/** The model of llama.cpp for a family; undefined: it is not written as GGUF. */
export function ggufFamily(family: string): GgufFamily | undefined {
  return WITH_CODE[family as FamilyName] ?? FAMILIES.get(family)?.gguf;
}
