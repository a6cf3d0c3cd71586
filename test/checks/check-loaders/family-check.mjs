import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CHARACTERS, FAMILIES_DIR, writeFamilyModel } from '../../family-models.mjs';
import {
  answersOf,
  BFLOAT16,
  baseGguf,
  downloadFolders,
  FLOAT32,
  manyAnswersOf,
  ownAnswers,
  TOKENS,
} from './answers.mjs';

/** @import { Answers } from './answers.mjs' */

/**
 * A tiny model with an adapter that PEFT trained, in PEFT, transformers and llama.cpp.
 * @param {{ name: string, prompts: string[], client: any, folder: string, peers: import('./answers.mjs').Peers,
 *   report: import('./answers.mjs').Report, signal: AbortSignal }} options
 */
export async function checkFamily({ name, prompts, client, folder, peers, report, signal }) {
  const base = path.join(folder, 'models', name);
  const source = { folder: path.join(FAMILIES_DIR, name, 'adapter_trained') };
  const adapter = await client.importAdapter(source, { base_model: name });
  const ours = await ownAnswers(client, adapter.id, prompts);
  const files = await downloadFolders(client, adapter.id, path.join(folder, name), signal);
  const common = { prompts, tokens: TOKENS };
  const inMxfp4 = name.endsWith('-mxfp4');
  /** The answers that llama.cpp should give. @type {Answers} */
  let theirs = { error: 'left out' };
  if (peers.transformers !== null) {
    const [withPeft, alone, rounded] = await manyAnswersOf(
      peers.transformers,
      'transformers_peft.py',
      [
        { ...common, model: base, adapter: files.adapter },
        { ...common, model: files.merged },
        // llama.cpp multiplies weights in MXFP4 with activations that it rounds.
        ...(inMxfp4 ? [{ ...common, model: files.merged, q8_0_experts: true }] : []),
      ],
      signal,
    );
    theirs = rounded ?? alone;
    report.compare(name, 'PEFT, adapter', withPeft, [['ours', ours, BFLOAT16]]);
    report.compare(name, 'transformers, merged', alone, [
      ['ours', ours, BFLOAT16],
      ['PEFT', withPeft, FLOAT32],
    ]);
  }
  if (peers.llama === null) return;
  /** @param {'adapter' | 'merged'} weights @param {string} type */
  const gguf = async (weights, type) => {
    const file = path.join(folder, name, `${weights}-${type}.gguf`);
    await client.downloadAdapter(adapter.id, { file }, { weights, format: 'gguf', type, signal });
    return file;
  };
  const refused = await gguf('merged', 'f32').then(
    () => null,
    (/** @type {{ code: string, message: string }} */ error) => error,
  );
  if (refused !== null) {
    const line = `refused: ${refused.message}`;
    return refused.code === 'model_not_supported'
      ? report.line(name, 'llama.cpp', line)
      : report.failure(name, 'llama.cpp', line);
  }
  const model = path.join(folder, name, 'merged-f32.gguf');
  const references = /** @type {[string, Answers, number][]} */ ([
    ['ours', ours, BFLOAT16],
    ['transformers', theirs, FLOAT32],
  ]);
  const ofModel = await answersOf(peers.llama, 'llama_cpp.py', { ...common, model }, signal);
  report.compare(name, 'llama.cpp, merged f32', ofModel, references);
  const baseFile = await baseGguf(base, path.join(folder, name, 'base.gguf'));
  const file = await gguf('adapter', 'f32').catch((/** @type {{ code: string, message: string }} */ error) => {
    if (error.code !== 'model_not_supported') throw error;
    report.line(name, 'llama.cpp, base and adapter', `refused: ${error.message}`);
    return null;
  });
  if (file === null) return;
  const withAdapter = { ...common, model: baseFile, adapter: file };
  const ofAdapter = await answersOf(peers.llama, 'llama_cpp.py', withAdapter, signal);
  report.compare(name, 'llama.cpp, base and adapter', ofAdapter, references);
}

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
