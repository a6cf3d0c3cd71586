import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { writeGgufModel } from '../../../packages/export/dist/index.js';
import { readModelFolder } from '../../../packages/model-folder/dist/index.js';

/** Tokens that each side generates after a prompt. */
export const TOKENS = 2;

/**
 * @typedef {{ text: string, steps: Record<string, number>[] }} Answer log-probabilities of the likeliest tokens, for each token
 * @typedef {Answer[] | { error: string }} Answers
 */

/**
 * The answers of the service itself.
 * @param {any} client @param {string} model @param {string[]} prompts @returns {Promise<Answer[]>}
 */
export async function ownAnswers(client, model, prompts) {
  const answers = [];
  for (const prompt of prompts) {
    const request = { model, prompt, max_tokens: TOKENS, temperature: 0, logprobs: 5 };
    const { choices } = await client.complete(request);
    answers.push({ text: choices[0].text, steps: choices[0].logprobs.top_logprobs });
  }
  return answers;
}

/**
 * Downloads an adapter as PEFT's folder and merged into its base model.
 * @param {any} client @param {string} id @param {string} folder @param {AbortSignal} signal
 */
export async function downloadFolders(client, id, folder, signal) {
  const adapter = path.join(folder, 'adapter');
  const merged = path.join(folder, 'merged');
  await client.downloadAdapter(id, { folder: adapter }, { signal });
  await client.downloadAdapter(id, { folder: merged }, { weights: 'merged', signal });
  return { adapter, merged };
}

/** The base model as GGUF, for an adapter. @param {string} folder @param {string} file */
export async function baseGguf(folder, file) {
  const model = await readModelFolder(folder);
  const adapter = { dropout: 0, modules: new Map(), baseModelNameOrPath: null };
  await mkdir(path.dirname(file), { recursive: true });
  await writeGgufModel({
    model,
    adapter,
    path: file,
    type: 'F32',
    description: { name: model.name, baseModel: model.name },
  });
  return file;
}
