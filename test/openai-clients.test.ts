import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import * as newest from 'openai';
import * as of2025 from 'openai-2025';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cacheDir } from '../scripts/setup/locations.mjs';
import { pythonEnvironment } from '../scripts/setup/python-environment.mjs';
import { startStack } from '../scripts/stack/start-stack.mjs';
import { makeDataFolder } from './data-folder.js';
import { type OpenaiPackage, runFlow } from './openai-clients/flow.js';
import { writeTinyLlama } from './tiny-llama.js';
import { usualCases } from './usual-cases.js';

// OpenAI's own packages, unchanged, against the complete service: for Node and Python, in the newest version and in one of
// November 2025. Each does the same: upload, fine-tune, poll, read events and results, chat, pause, cancel, delete.

const FLOWS = path.join(import.meta.dirname, 'openai-clients');
const FLOW_MS = 240_000;
const run = promisify(execFile);

/** ChatML with tools, as Qwen has it. */
const TEMPLATE =
  '{% for tool in tools or [] %}<tool>{{ tool.function.name }}</tool>{% endfor %}' +
  '{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>\n' +
  "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n" +
  '{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}';

let folder: string;
let stack: Awaited<ReturnType<typeof startStack>>;
let baseUrl: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-openai-'));
  await makeDataFolder(path.join(folder, 'data'));
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  await writeFile(path.join(folder, 'models/tiny-llama/chat_template.jinja'), TEMPLATE);
  stack = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir: path.join(folder, 'models'),
    env: { ...process.env, REDIS_URL: undefined },
  });
  baseUrl = `${stack.apiUrl}/v1`;
});

afterAll(async () => {
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Installed once, into the cache. */
async function python(requirements: string, suffix: string): Promise<unknown> {
  const options = { cache: cacheDir(process.env), name: 'openai-client', requirements: path.join(FLOWS, requirements) };
  const program = path.join(await pythonEnvironment(options), 'python');
  const { stdout } = await run(program, [path.join(FLOWS, 'flow.py'), baseUrl, suffix], { timeout: FLOW_MS });
  return JSON.parse(stdout);
}

const node = (openai: unknown, suffix: string) => runFlow(openai as OpenaiPackage, baseUrl, suffix);

const refused = (param: string | null, code = 'invalid_request', status = 400) => ({
  type: status === 404 ? 'NotFoundError' : 'BadRequestError',
  status,
  code,
  param,
});

describe.concurrent("OpenAI's package", () => {
  test.each(
    usualCases(
      [
        ['for Node, newest', () => node(newest, 'node-new')],
        ['for Python, newest', () => python('python-newest.txt', 'python-new')],
        ['for Node, of November 2025', () => node(of2025, 'node-old')],
        ['for Python, of November 2025', () => python('python-2025.txt', 'python-old')],
      ],
      2,
    ),
  )(
    '%s',
    async (_, flow) => {
      const seen = (await flow()) as { job: { suffix: string } };
      const { suffix } = seen.job;
      expect(seen).toMatchObject({
        file: { filename: `${suffix}.jsonl`, purpose: 'fine-tune', status: 'processed' },
        listed: true,
        content: true,
        created: { object: 'fine_tuning.job', status: true, seed: 7 },
        job: {
          error: null,
          files: [true, true],
          metadata: { who: suffix },
          n_epochs: 2,
          batch_size: 4,
          trained: true,
          finished: true,
        },
        // 12 rows: 100 steps of one row, at most 10 epochs.
        automatic: [9, 1],
        lines: [13, 26],
        events: { first: true, last: 'The job has successfully completed', unique: true, steps: [6] },
        checkpoints: [6],
        result: [
          'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy',
          ...['0', '1', '2', '3', '4', '5', '6'],
        ],
        result_file: 'fine-tune-results',
        model: { id: true, listed: true },
        answer: { model: true, tokens: true },
        structured: { ok: true },
        called: ['tool_calls', 'look', ['ok'], ['look']],
        allowed: ['hear'],
        replied: true,
        preferred: ['dpo', 0.2, true],
        paused: 'paused',
        resumed: 'queued',
        cancelled: 'cancelled',
        jobs: true,
        refusals: {
          reinforcement: refused('method.type'),
          integrations: refused('integrations'),
          file: refused('training_file', 'dataset_not_found', 404),
          base: refused('model', 'model_not_found', 404),
          purpose: refused('purpose'),
          row: refused(null, 'invalid_dataset'),
          image: refused('messages.0.content.0'),
        },
        deleted: [true, true],
        gone: ['model_not_found', 'dataset_not_found'],
      });
    },
    FLOW_MS,
  );
});
