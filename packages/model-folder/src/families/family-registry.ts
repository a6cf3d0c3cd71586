import { arcee } from './arcee.js';
import { classifier } from './classifier.js';
import { composite } from './composite.js';
import { deepseekV3 } from './deepseek-v3.js';
import { ernie45 } from './ernie4-5.js';
import { exaone4 } from './exaone4.js';
import type { Family } from './family.js';
import { gemma2, gemma3Text } from './gemma.js';
import { gemma4Text } from './gemma4.js';
import { glm, glm4 } from './glm.js';
import { glm4Moe } from './glm4-moe.js';
import { glm4MoeLite } from './glm4-moe-lite.js';
import { gptOss } from './gpt-oss.js';
import { gpt2 } from './gpt2.js';
import { granite, graniteMoe, graniteMoeHybrid, graniteMoeShared } from './granite.js';
import { llama } from './llama.js';
import { ministral3 } from './ministral3.js';
import { mistral } from './mistral.js';
import { mistral4 } from './mistral4.js';
import { nemotron } from './nemotron.js';
import { olmo2, olmo3 } from './olmo.js';
import { phi3 } from './phi3.js';
import { qwen2 } from './qwen2.js';
import { qwen2Moe } from './qwen2-moe.js';
import { qwen3 } from './qwen3.js';
import { qwen3Next, qwen35MoeText, qwen35Text } from './qwen3-5.js';
import { qwen3Moe } from './qwen3-moe.js';
import { seedOss } from './seed-oss.js';
import { smollm3 } from './smollm3.js';

const gemma3 = composite('Gemma3ForConditionalGeneration', new Map([['gemma3_text', gemma3Text]]));
const gemma4 = composite('Gemma4ForConditionalGeneration', new Map([['gemma4_text', gemma4Text]]));
const mistral3 = composite(
  'Mistral3ForConditionalGeneration',
  new Map([
    ['mistral', mistral],
    ['ministral3', ministral3],
    ['mistral4', mistral4],
  ]),
);

const qwen35 = composite('Qwen3_5ForConditionalGeneration', new Map([['qwen3_5_text', qwen35Text]]), {
  tiedHead: false,
});

const qwen35Moe = composite('Qwen3_5MoeForConditionalGeneration', new Map([['qwen3_5_moe_text', qwen35MoeText]]), {
  tiedHead: false,
});

/** The families by their `model_type`. Call `layout` only with an architecture of the same family. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map<string, Family>([
  ['llama', llama as Family],
  ['mistral', mistral as Family],
  ['qwen2', qwen2 as Family],
  ['qwen2_moe', qwen2Moe as Family],
  ['qwen3', qwen3 as Family],
  ['qwen3_moe', qwen3Moe as Family],
  ['qwen3_next', qwen3Next as Family],
  ['qwen3_5_text', qwen35Text as Family],
  ['qwen3_5', qwen35 as Family],
  ['qwen3_5_moe_text', qwen35MoeText as Family],
  ['qwen3_5_moe', qwen35Moe as Family],
  ['gemma2', gemma2 as Family],
  ['gemma3_text', gemma3Text as Family],
  ['gemma3', gemma3 as Family],
  ['gemma4_text', gemma4Text as Family],
  ['gemma4', gemma4 as Family],
  ['phi3', phi3 as Family],
  ['ministral3', ministral3 as Family],
  ['mistral3', mistral3 as Family],
  ['smollm3', smollm3 as Family],
  ['granite', granite as Family],
  ['granitemoe', graniteMoe as Family],
  ['granitemoeshared', graniteMoeShared as Family],
  ['granitemoehybrid', graniteMoeHybrid as Family],
  ['olmo2', olmo2 as Family],
  ['olmo3', olmo3 as Family],
  ['exaone4', exaone4 as Family],
  ['seed_oss', seedOss as Family],
  ['arcee', arcee as Family],
  ['nemotron', nemotron as Family],
  ['glm', glm as Family],
  ['glm4', glm4 as Family],
  ['glm4_moe', glm4Moe as Family],
  ['glm4_moe_lite', glm4MoeLite as Family],
  ['deepseek_v3', deepseekV3 as Family],
  ['mistral4', mistral4 as Family],
  ['ernie4_5', ernie45 as Family],
  ['gpt2', gpt2 as Family],
  ['gpt_oss', gptOss as Family],
  ['classifier', classifier as Family],
]);
