import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CHARACTERS, writeFamilyModel } from '../../family-models.mjs';

/** Settings that llama.cpp does not have, and what they are replaced with here. */
const REPLACED = {
  gemma2: { query_pre_attn_scalar: 8 },
  gemma3: { query_pre_attn_scalar: 6 },
  'gemma3-text': { query_pre_attn_scalar: 6 },
  glm4_moe_lite: { rms_norm_eps: 1e-6 },
  gpt_oss: { truncate: true },
  'gpt_oss-mxfp4': { truncate: true },
  'olmo3-legacy': { rope_theta: 500_000 },
  'qwen3_5-text-square': { rms_norm_eps: 1e-6 },
  qwen3_5: { rms_norm_eps: 1e-6 },
  qwen3_5_moe: { rms_norm_eps: 1e-6 },
  'qwen3_5_moe-experts': { rms_norm_eps: 1e-6 },
  'qwen3_next-experts': { rms_norm_eps: 1e-6 },
  'mistral-no-window-sharded': { hidden_act: 'silu' },
};

/**
 * Makes a base model of a case, in the folder of models, and texts for it.
 * @param {string} name @param {string} modelsDir
 */
export async function addFamily(name, modelsDir) {
  const folder = path.join(modelsDir, name);
  await writeFamilyModel(name, folder);
  const configFile = path.join(folder, 'config.json');
  const text = await readFile(configFile, 'utf8');
  // As text: transformers refuses 3 where it wants 3.0, and JSON.stringify writes 3. In place, as a composite has them in text_config.
  let changed = text;
  for (const [key, value] of Object.entries(/** @type {any} */ (REPLACED)[name] ?? {})) {
    const replaced = changed.replace(new RegExp(`"${key}": [^,\\n]+`), `"${key}": ${JSON.stringify(value)}`);
    if (replaced === changed) throw new Error(`${name}: config.json has no ${key} to replace`);
    changed = replaced;
  }
  if (changed !== text) await writeFile(configFile, changed);
  const config = JSON.parse(text);
  // Texts longer than the window, if there is one, are not what llama.cpp computes.
  const isUnused = name === 'gemma2' || config.use_sliding_window === false;
  const window = isUnused ? null : (config.sliding_window ?? null);
  // llama.cpp chooses the factors of LongRoPE by the size of its context, so a text must need the long ones.
  const unlimited = text.includes('long_factor') ? 40 : 24;
  const length = window === null ? unlimited : window - 2;
  return [0, 1, 2].map((start) =>
    Array.from({ length }, (_, index) => CHARACTERS[(7 * index + 5 * start) % CHARACTERS.length]).join(''),
  );
}
