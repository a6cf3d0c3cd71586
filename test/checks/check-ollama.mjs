// npm run check-ollama: gives Ollama the GGUF files and Modelfiles that the service writes, and compares its likeliest answers with
// those of the service, token by token: tiny models of several families and the demo model, each with an adapter that is trained here.
// Ollama is compiled from its Go module, which takes half an hour the first time; OLLAMA names a program instead. --only NAME checks one.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createClient } from '../../packages/client/dist/index.js';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { FAMILY_ROWS } from '../family-models.mjs';
import { Report, untilMeasured } from './check-loaders/answers.mjs';
import { addChatModel, DATES, FAMILIES, LETTERS } from './check-ollama/chat-models.mjs';
import { findOllama, startOllama } from './check-ollama/ollama-server.mjs';

const { values: flags } = parseArgs({ options: { only: { type: 'string', multiple: true } } });
const isWanted = (/** @type {string} */ name) => flags.only === undefined || flags.only.includes(name);

const TOKENS = 16;
/** Ollama keeps keys and values in float16: two tokens whose log-probabilities differ by less may change places. */
const TIE = 0.02;
/** Enough steps that the adapter answers otherwise than the base. In float32, in which the service then answers too. */
const TRAINING = { batch_size: 8, max_seq_length: 128, precision: 'float32' };
const ADAPTER = { r: 8, alpha: 16, target_modules: 'all-linear' };

await runAsCommand(async () => {
  const signal = interruption();
  const folder = await mkdtemp(path.join(tmpdir(), 'check-ollama-'));
  const report = new Report();
  try {
    const { file, origin } = await findOllama();
    console.log(origin);
    const ollama = await startOllama(file, path.join(folder, 'ollama'), signal);
    try {
      await checkFamilies({ ollama, report, folder, signal });
      if (isWanted('demo')) await checkDemo({ ollama, report, folder, signal });
    } finally {
      await ollama.stop();
    }
    console.log(report.failures === 0 ? '\nno failure' : `\n${report.failures} do not match`);
    return report.failures === 0 ? 0 : 1;
  } catch (error) {
    if (!signal.aborted) throw error;
    console.log('\nInterrupted.');
    return 130;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/**
 * @typedef {object} Check
 * @property {Awaited<ReturnType<typeof startOllama>>} ollama
 * @property {Report} report
 * @property {string} folder
 * @property {AbortSignal} signal
 */

/** @param {Check} check */
async function checkFamilies({ folder, ...check }) {
  const names = Object.keys(FAMILIES).filter(isWanted);
  if (names.length === 0) return;
  const modelsDir = path.join(folder, 'models');
  for (const name of names) await addChatModel(name, modelsDir);
  await withService(path.join(folder, 'data'), modelsDir, check.signal, async (client) => {
    const rows = new Blob([FAMILY_ROWS.map((row) => `${JSON.stringify(row)}\n`).join('')]);
    const dataset = await client.uploadDataset({ blob: rows }, { name: 'letters.jsonl' });
    for (const name of names) {
      const training = { ...TRAINING, max_steps: 20, learning_rate: 0.02 };
      const id = await train(client, { base_model: name, dataset: dataset.id, training }, check.signal);
      await compare({ client, id, name, folder, conversations: LETTERS, ...check });
    }
  });
}

/** @param {Check} check */
async function checkDemo({ folder, ...check }) {
  await withService(path.join(folder, 'demo-data'), path.join(ROOT_DIR, 'models'), check.signal, async (client) => {
    const dataset = await client.uploadDataset({ file: path.join(ROOT_DIR, 'examples/dates/train.jsonl') });
    const training = { ...TRAINING, max_steps: 30, learning_rate: 1e-3 };
    const id = await train(client, { base_model: DEMO_MODEL_NAME, dataset: dataset.id, training }, check.signal);
    await compare({ client, id, name: 'demo', folder, conversations: DATES, ...check });
  });
}

/** @param {string} dataDir @param {string} modelsDir @param {AbortSignal} signal @param {(client: any) => Promise<void>} use */
async function withService(dataDir, modelsDir, signal, use) {
  const stack = await startStack({ dataDir, modelsDir, signal });
  try {
    const client = createClient({ baseUrl: stack.apiUrl });
    // Until the worker has measured the machine, it answers nothing.
    await untilMeasured(client, signal);
    await use(client);
  } finally {
    await stack.stop();
  }
}

/** @param {any} client @param {object} request @param {AbortSignal} signal @returns {Promise<string>} the adapter */
async function train(client, request, signal) {
  const { id } = await client.createJob({ lora: ADAPTER, ...request });
  const job = await client.waitForJob(id, { signal });
  if (job.adapter === null) throw new Error(`the job ${job.status}: ${job.error?.message}`);
  return job.adapter;
}

/**
 * Gives Ollama the merged model as GGUF with its Modelfile, and compares the answers to each conversation.
 * @param {Check & { client: any, id: string, name: string, conversations: import('./check-ollama/ollama-server.mjs').Message[][] }} options
 */
async function compare({ client, id, name, conversations, ollama, report, folder, signal }) {
  const target = path.join(folder, 'gguf', name);
  try {
    const options = { weights: 'merged', format: 'gguf', type: 'f32', signal };
    await client.downloadAdapter(id, { folder: target }, options);
    await ollama.create(name, target);
    for (const messages of conversations) {
      const roles = messages.map(({ role }) => role[0]).join('');
      const ours = await ownAnswer(client, id, messages);
      if (ours === null) {
        report.line(name, roles, 'left out: the chat template refuses it');
        continue;
      }
      const theirs = await ollama.chat(name, messages, TOKENS);
      const fault = faultOf(ours, theirs);
      if (fault === null) report.line(name, roles, `same: ${JSON.stringify(theirs.text)}`);
      else report.failure(name, roles, `${fault}\n  prompt ${JSON.stringify(await ollama.rendered(name, messages))}`);
    }
  } catch (error) {
    signal.throwIfAborted();
    report.failure(name, 'Ollama', `FAILED: ${error instanceof Error ? error.message : error}`);
  }
}

/**
 * @typedef {object} OwnAnswer
 * @property {string} text
 * @property {number} promptTokens
 * @property {{ token: string, lead: number }[]} steps each token, and by how much it is likelier than the next one
 */

/** @param {any} client @param {string} model @param {object[]} messages @returns {Promise<OwnAnswer | null>} */
async function ownAnswer(client, model, messages) {
  const request = { model, messages, max_tokens: TOKENS, temperature: 0, logprobs: true, top_logprobs: 2 };
  const answer = await client.chat(request).catch((/** @type {{ status?: number, code?: string }} */ error) => {
    if (error.code === 'chat_template_failed' || error.status === 400) return null;
    throw error;
  });
  if (answer === null) return null;
  const [{ message, logprobs }] = answer.choices;
  const steps = logprobs.content.map((/** @type {any} */ { token, top_logprobs: [first, second] }) => {
    return { token, lead: first.logprob - second.logprob };
  });
  return { text: message.content, promptTokens: answer.usage.prompt_tokens, steps };
}

/**
 * The difference of two answers; null if there is none, or only in the order of two tokens that are equally likely.
 * @param {OwnAnswer} ours @param {import('./check-ollama/ollama-server.mjs').ChatAnswer} theirs
 */
function faultOf(ours, theirs) {
  if (ours.promptTokens !== theirs.promptTokens) {
    return `NO MATCH: ${theirs.promptTokens} tokens of the prompt instead of ${ours.promptTokens}`;
  }
  // Ollama writes special tokens into its text, which the service leaves out: so tokens are compared.
  const first = ours.steps.findIndex(({ token }, index) => token !== theirs.tokens[index]);
  if (first === -1 && ours.steps.length === theirs.tokens.length) return null;
  const lead = ours.steps[first]?.lead ?? Number.POSITIVE_INFINITY;
  if (lead < TIE) return null;
  const texts = `${JSON.stringify(theirs.text)} instead of ${JSON.stringify(ours.text)}`;
  return `NO MATCH: ${texts}, from token ${first} on, which leads by ${lead.toFixed(3)}`;
}
