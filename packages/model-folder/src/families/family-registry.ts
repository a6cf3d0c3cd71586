import { arcee } from './arcee.js';
import { classifier } from './classifier.js';
import { composite } from './composite.js';
import { deepseekV3 } from './deepseek-v3.js';
import { ernie45 } from './ernie4-5.js';
import { exaone4 } from './exaone4.js';
import type { Family } from './family.js';
import { gemma2, gemma3Text } from './gemma.js';
import { gemma4Text } from './gemma4.js';
import { glm, glm4, glm4Moe, glm4MoeLite } from './glm.js';
import { gptOss } from './gpt-oss.js';
import { gpt2 } from './gpt2.js';
import { granite, graniteMoe, graniteMoeHybrid, graniteMoeShared } from './granite.js';
import { llama } from './llama.js';
import { ministral3, mistral, mistral4 } from './mistral.js';
import { nemotron } from './nemotron.js';
import { olmo2, olmo3 } from './olmo.js';
import { phi3 } from './phi3.js';
import { qwen2, qwen2Moe } from './qwen2.js';
import { qwen3, qwen3Moe } from './qwen3.js';
import { qwen3Next, qwen35MoeText, qwen35Text } from './qwen3-5.js';
import { seedOss } from './seed-oss.js';
import { smollm3 } from './smollm3.js';

const gemma3 = composite('Gemma3ForConditionalGeneration', new Map([['gemma3_text', gemma3Text]]), {
  covers: 'Gemma 3 from 4B on and MedGemma: `gemma3_text` with an encoder of images',
});
const gemma4 = composite('Gemma4ForConditionalGeneration', new Map([['gemma4_text', gemma4Text]]), {
  covers: 'Gemma 4 E2B, E4B, 31B and 26B-A4B: `gemma4_text` with encoders of images and sound',
});
const mistral3 = composite(
  'Mistral3ForConditionalGeneration',
  new Map([
    ['mistral', mistral],
    ['ministral3', ministral3],
    ['mistral4', mistral4],
  ]),
  {
    covers:
      'Mistral Small 3.1 and later, Devstral, Magistral, Ministral 3: `mistral`, `ministral3` or `mistral4` with an encoder of images',
  },
);

const qwen35 = composite('Qwen3_5ForConditionalGeneration', new Map([['qwen3_5_text', qwen35Text]]), {
  covers: 'Qwen3.5, 3.6 and 3.8 without experts: `qwen3_5_text` with an encoder of images',
  tiedHead: false,
});

const qwen35Moe = composite('Qwen3_5MoeForConditionalGeneration', new Map([['qwen3_5_moe_text', qwen35MoeText]]), {
  covers: 'Qwen3.5 with experts (35B-A3B and larger): `qwen3_5_moe_text` with an encoder of images',
  tiedHead: false,
});

/** The families by their `model_type`. Another one is a line here, and its file. */
const BY_TYPE = {
  llama,
  mistral,
  qwen2,
  qwen2_moe: qwen2Moe,
  qwen3,
  qwen3_moe: qwen3Moe,
  qwen3_next: qwen3Next,
  qwen3_5_text: qwen35Text,
  qwen3_5: qwen35,
  qwen3_5_moe_text: qwen35MoeText,
  qwen3_5_moe: qwen35Moe,
  gemma2,
  gemma3_text: gemma3Text,
  gemma3,
  gemma4_text: gemma4Text,
  gemma4,
  phi3,
  ministral3,
  mistral3,
  smollm3,
  granite,
  granitemoe: graniteMoe,
  granitemoeshared: graniteMoeShared,
  granitemoehybrid: graniteMoeHybrid,
  olmo2,
  olmo3,
  exaone4,
  seed_oss: seedOss,
  arcee,
  nemotron,
  glm,
  glm4,
  glm4_moe: glm4Moe,
  glm4_moe_lite: glm4MoeLite,
  deepseek_v3: deepseekV3,
  mistral4,
  ernie4_5: ernie45,
  gpt2,
  gpt_oss: gptOss,
  classifier,
};

/** The `model_type` of a family. */
export type FamilyName = keyof typeof BY_TYPE;

/** The families by their `model_type`. Call `layout` only with an architecture of the same family. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map<string, Family>(Object.entries(BY_TYPE));
