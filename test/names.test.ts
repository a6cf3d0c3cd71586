import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient } from '../packages/client/src/index.js';
import type { JobRequest, TrainedOrigin } from '../packages/contracts/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { writeTinyLlama } from './tiny-llama.js';

// Names that point to adapters, in the complete product: jobs train the adapters, and a worker answers by the name.

interface Stack {
  apiUrl: string;
  stop(): Promise<void>;
}

let folder: string;
let stack: Stack;
let client: ReturnType<typeof createClient>;
let openai: OpenAI;
let dataset: string;
let heldOut: string;
let worse: Trained;
let better: Trained;

const rows = (first: number) =>
  Array.from({ length: 24 }, (_, i) => ({
    messages: [
      { role: 'user', content: `Say ${first + i}.` },
      { role: 'assistant', content: `It is ${first + i}.` },
    ],
  }));
const upload = async (first: number) => {
  const text = rows(first).map((row) => `${JSON.stringify(row)}\n`);
  return (await client.uploadDataset({ text: text.join('') })).id;
};

interface Trained {
  id: string;
  /** The loss on the held-out rows, as its job evaluated it. */
  loss: number;
}

async function trained(training: JobRequest['training']): Promise<Trained> {
  const { id } = await client.createJob({
    base_model: 'tiny-llama',
    dataset,
    validation: { dataset: heldOut },
    lora: { r: 4, alpha: 8, target_modules: ['q_proj', 'v_proj'] },
    training: { batch_size: 4, learning_rate: 0.01, precision: 'float32', ...training },
  });
  const { adapter, error } = await client.waitForJob(id);
  if (adapter === null) throw new Error(error?.message);
  const { result } = (await client.manifest(adapter)).origin as TrainedOrigin;
  return { id: adapter, loss: result.evaluation_after!.loss };
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-names-'));
  await makeDataFolder(path.join(folder, 'data'));
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  // The specifier is computed because the file is JavaScript without declarations.
  const { startStack } = await import(new URL('../scripts/stack/start-stack.mjs', import.meta.url).href);
  const [dataDir, modelsDir] = [path.join(folder, 'data'), path.join(folder, 'models')];
  stack = await startStack({ dataDir, modelsDir, env: process.env });
  client = createClient({ baseUrl: stack.apiUrl });
  openai = new OpenAI({ baseURL: `${stack.apiUrl}/v1`, apiKey: 'none', maxRetries: 0 });
  [dataset, heldOut] = [await upload(0), await upload(30)];
  [worse, better] = [await trained({ max_steps: 1 }), await trained({ max_steps: 20 })];
});
afterAll(async () => {
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** The log-probabilities of a text, which are others for each adapter. */
async function scores(model: string) {
  const prompt = 'Say 3.';
  const answer = await openai.completions.create({ model, prompt, max_tokens: 0, echo: true, logprobs: 1 });
  return answer.choices[0]!.logprobs!.token_logprobs;
}

test('a name answers with the adapter that it points to, after a move and after it is rolled back', async () => {
  const [ofWorse, ofBetter] = [await scores(worse.id), await scores(better.id)];
  expect(ofWorse).not.toEqual(ofBetter);
  await client.moveAlias('support-bot', { adapter: worse.id });
  expect(await scores('support-bot')).toEqual(ofWorse);
  await client.moveAlias('support-bot', { adapter: better.id, if_version: 1 });
  expect(await scores('support-bot')).toEqual(ofBetter);
  const streamed = await openai.chat.completions
    .create({ model: 'support-bot', messages: [{ role: 'user', content: 'Say 3.' }], max_tokens: 8, stream: true })
    .withResponse();
  expect(streamed.response.headers.get('x-lorasmith-adapter')).toBe(better.id);
  for await (const chunk of streamed.data) expect(chunk.model).toBe('support-bot');
  await client.rollBackAlias('support-bot');
  expect(await scores('support-bot')).toEqual(ofWorse);

  const named = path.join(folder, 'named');
  await client.downloadAdapter('support-bot', { folder: named });
  expect(JSON.parse(await readFile(path.join(named, 'manifest.json'), 'utf8')).id).toBe(worse.id);
  await expect(client.deleteAdapter(worse.id)).rejects.toMatchObject({ code: 'in_use' });
  await client.deleteAlias('support-bot');
  await expect(scores('support-bot')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
});

test('a name moves to an adapter that is not worse on held-out rows, and to no other', async () => {
  expect(better.loss).toBeLessThan(worse.loss);
  const guard = (max_worse: number) => ({ dataset: heldOut, metric: 'loss' as const, max_worse });
  const move = async (adapter: string, max_worse: number) =>
    (await client.moveAlias('nightly', { adapter, guard: guard(max_worse) })).history[0]!;

  // The losses are those of the evaluations of the jobs.
  const first = await move(worse.id, 0);
  expect(first.guard).toEqual({ ...guard(0), before: null, after: expect.closeTo(worse.loss, 4) });
  const second = await move(better.id, 0);
  expect(second.guard).toEqual({ ...guard(0), before: first.guard!.after, after: expect.closeTo(better.loss, 4) });
  const refused = move(worse.id, (worse.loss - better.loss) / 2);
  await expect(refused).rejects.toMatchObject({ code: 'guard_failed', param: 'guard' });
  await expect(refused).rejects.toThrow(first.guard!.after.toPrecision(6));
  expect(await client.alias('nightly')).toMatchObject({ adapter: better.id, version: 2 });
  expect(await move(worse.id, 2 * (worse.loss - better.loss))).toMatchObject({ version: 3, adapter: worse.id });
});
