import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';

/** A folder for each case. */
const FAMILIES_DIR = path.join(ROOT_DIR, 'test/fixtures/families');

/** @typedef {{ name: string, family: string, results: Readonly<Record<string, string>> }} Case */

/** The families in the order of their table, and which models they are. */
const FAMILIES = {
  llama: 'Llama 1 to 3 and models built like them: grouped-query attention, biases, tied and untied heads',
  mistral: 'with its sliding windows',
  qwen2: 'with its sliding windows',
  qwen2_moe: 'Qwen1.5 and Qwen2 with experts, one of which all tokens pass',
  qwen3: 'with its sliding windows',
  qwen3_moe: 'Qwen3 with experts (30B-A3B, 235B-A22B, Coder)',
  qwen3_next: 'Qwen3-Next (80B-A3B): the layers of `qwen3_5_text` with experts, one of which all tokens pass',
  qwen3_5_text:
    'the language model of Qwen3.5, 3.6 and 3.8: linear attention in three of four layers, attention with a gate in the fourth',
  qwen3_5: 'Qwen3.5, 3.6 and 3.8 without experts: `qwen3_5_text` beside an encoder of images',
  qwen3_5_moe_text: 'the language model of Qwen3.5 with experts, one of which all tokens pass',
  qwen3_5_moe: 'Qwen3.5 with experts (35B-A3B and larger): `qwen3_5_moe_text` beside an encoder of images',
  gemma2: 'with capped scores and logits',
  phi3: 'Phi-3, 3.5 and 4; q, k and v in one layer (`qkv_proj`), gate and up in one (`gate_up_proj`)',
  gpt_oss: 'gpt-oss 20B and 120B: attention sinks; experts with biases, in MXFP4 or as floats',
  gpt2: 'GPT-2; its layers are `c_attn`, `c_proj` and `c_fc`',
  gemma3_text: 'Gemma 3 270M and 1B: full attention and windows with rotary settings of their own',
  gemma3: 'Gemma 3 from 4B on and MedGemma: `gemma3_text` beside an encoder of images',
  gemma4_text:
    'the language model of Gemma 4 E2B, E4B and 31B: heads of two sizes, keys and values that layers share, inputs of layers; also of 26B-A4B, with experts beside MLPs',
  gemma4: 'Gemma 4 E2B, E4B, 31B and 26B-A4B: `gemma4_text` beside encoders of images and sound',
  mistral3:
    'Mistral Small 3.1 and later, Devstral, Magistral, Ministral 3: `mistral`, `ministral3` or `mistral4` beside an encoder of images',
  ministral3: 'queries that grow beyond the original context',
  smollm3: 'layers without positions',
  granite: 'Granite 3: factors of embeddings, scores, branches and logits',
  granitemoe: 'Granite 3 with experts (1B-A400M, 3B-A800M)',
  granitemoeshared: 'the same with an expert that all tokens pass',
  granitemoehybrid:
    'Granite 4 without Mamba layers (350M, 1B, micro), with experts or without; its MLP is `input_linear` and `output_linear`',
  olmo2: 'norms after attention and MLP, and of all queries and all keys together',
  olmo3: 'OLMo 2 with windows',
  exaone4: 'norms after attention and MLP; no positions where there is no window',
  seed_oss: 'Llama with biases of q, k and v',
  arcee: 'max(x, 0)² in an MLP without gate (`up_proj`, `down_proj`)',
  nemotron: 'as `arcee`, with layer norms; Nemotron 4 and Minitron, not Nemotron-H',
  glm: 'half of each head rotates, in neighbouring pairs; gate and up are `gate_up_proj`',
  glm4: 'as `glm`, with norms after attention and MLP',
  glm4_moe: 'GLM 4.5, 4.6 and 4.7 with experts, whose router scores by sigmoid',
  glm4_moe_lite: 'GLM-4.7-Flash: as `deepseek_v3`',
  deepseek_v3:
    'DeepSeek V3 and R1, Moonlight: latent attention, with or without a latent of queries; experts as in `glm4_moe`',
  mistral4: 'Mistral 4: as `deepseek_v3`, with the positions of Ministral 3 and a router that scores by softmax',
  ernie4_5: 'ERNIE 4.5 without experts; heads rotate in neighbouring pairs',
};
const PEFT = 'PEFT, adapter';
const TRANSFORMERS = 'transformers, merged';
const LLAMA = 'llama.cpp';
const LLAMA_MERGED = 'llama.cpp, merged f32';
const LLAMA_ADAPTER = 'llama.cpp, base and adapter';
const VLLM = 'vLLM, base and adapter';
const VLLM_MERGED = 'vLLM, merged';

/** The cases of test/fixtures/families with what `npm run check-loaders -- --record` kept of them. @returns {Promise<Case[]>} */
export async function loadCases() {
  const results = JSON.parse(await readFile(path.join(ROOT_DIR, 'checks/check-loaders/results.json'), 'utf8'));
  return await Promise.all(
    (await readdir(FAMILIES_DIR)).sort().map(async (name) => {
      const config = JSON.parse(await readFile(path.join(FAMILIES_DIR, name, 'base/config.json'), 'utf8'));
      return { name, family: config.model_type, results: results[name] ?? {} };
    }),
  );
}

/**
 * A table of what each family's models load in.
 * @param {Case[]} cases @returns {string} Markdown
 */
export function familyTable(cases) {
  const unknown = cases.find(({ family }) => !(family in FAMILIES));
  if (unknown !== undefined) throw new Error(`scripts/docs/loader-tables.mjs: FAMILIES lacks ${unknown.family}`);
  const rows = Object.entries(FAMILIES).map(([family, covers]) => {
    const own = cases.filter((one) => one.family === family);
    const both = (/** @type {Case} */ { results }) => isMatch(results[PEFT]) && isMatch(results[TRANSFORMERS]);
    const cells = [
      `${own.length}`,
      cellOf(own, [[both, 'yes']], () => undefined),
      cellOf(
        own,
        [
          [({ results }) => isMatch(results[LLAMA_MERGED]) && isMatch(results[LLAMA_ADAPTER]), 'yes'],
          [({ results }) => isMatch(results[LLAMA_MERGED]), 'merged'],
        ],
        ({ results }) => results[LLAMA],
      ),
      cellOf(
        own,
        [
          [({ results }) => isMatch(results[VLLM]), 'yes'],
          [({ results }) => isMatch(results[VLLM_MERGED]), 'merged'],
        ],
        ({ results }) => results[VLLM],
      ),
    ];
    return `| \`${family}\` | ${covers} | ${cells.join(' | ')} |`;
  });
  const head = ['`model_type`', 'Covers', 'Cases', 'PEFT and transformers', 'llama.cpp', 'vLLM'];
  return [`| ${head.join(' | ')} |`, `|${' --- |'.repeat(head.length)}`, ...rows].join('\n');
}

/**
 * @param {Case[]} cases
 * @param {[holds: (one: Case) => boolean, cell: string][]} answers the first that holds for a case is the family's
 * @param {(one: Case) => string | undefined} failure what a case has instead
 */
function cellOf(cases, answers, failure) {
  const failureOf = (/** @type {Case} */ one) => {
    const text = failure(one);
    if (text === undefined || isMatch(text)) return undefined;
    return text.includes('NO MATCH') ? `another answer for ${one.name}` : reasonOf(text).replace(/ in \S+ models$/, '');
  };
  const found = answers.find(([holds]) => cases.some(holds))?.[1];
  const failures = [...new Set(cases.flatMap((one) => failureOf(one) ?? []))];
  if (found === undefined) return failures.length === 0 ? 'not run' : `no: ${failures.join('; ')}`;
  return failures.length === 0 ? found : `${found}, but ${failures.join('; ')}`;
}

/**
 * A table of the greatest differences of log-probabilities, by case.
 * @param {Case[]} cases @returns {string} Markdown
 */
export function caseTable(cases) {
  const rows = cases
    .filter(({ results }) => Object.keys(results).length > 0)
    .map(({ name, results }) => {
      const refused = results[LLAMA];
      const ofLlama =
        refused === undefined
          ? [differenceOf(results[LLAMA_MERGED], 'transformers'), differenceOf(results[LLAMA_ADAPTER], 'transformers')]
          : [`refused: ${reasonOf(refused)}`, ''];
      const cells = [differenceOf(results[PEFT], 'ours'), differenceOf(results[TRANSFORMERS], 'PEFT'), ...ofLlama];
      const ofVllm = [differenceOf(results[VLLM], 'PEFT'), differenceOf(results[VLLM_MERGED], 'transformers')];
      return `| ${[name, ...cells, ...ofVllm].join(' | ')} |`;
    });
  const head = ['Model', 'ours and PEFT', 'PEFT and transformers (merged)', 'transformers and llama.cpp: merged'];
  head.push('base and adapter', 'PEFT and vLLM: base and adapter', 'transformers and vLLM: merged');
  return [`| ${head.join(' | ')} |`, `|${' --- |'.repeat(head.length)}`, ...rows].join('\n');
}

/** @param {string | undefined} result */
function isMatch(result) {
  return result !== undefined && !/NO MATCH|refused|FAILED/.test(result);
}

/** @param {string | undefined} result @param {string} reference */
function differenceOf(result, reference) {
  if (result === undefined) return 'not run';
  if (result.startsWith('refused')) return `refused: ${reasonOf(result)}`;
  const [, noMatch, difference] = new RegExp(`(NO MATCH )?${reference} ([^,:]+)`).exec(result) ?? [];
  if (difference === undefined) throw new Error(`checks/check-loaders/results.json: "${result}" has no ${reference}`);
  return noMatch === undefined ? difference : `NO MATCH: ${difference}`;
}

/** @param {string} result */
function reasonOf(result) {
  const reason = result.replace(/^refused: /, '').replace(/\.$/, '');
  return reason
    .replace(/^.* cannot be written as GGUF: /, '')
    .replace(/^llama\.cpp has /, '')
    .replace(/ \(it is [\d.]+\)/, '');
}
