import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text as streamText } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient, probeServer } from '../packages/client/src/index.js';
import type { Grader, GradingBody, Job, JobEvent, JobRequest, TrainedOrigin } from '../packages/contracts/src/index.js';
import { classifierRows, writeTinyClassifier } from '../packages/training/test/tiny-classifier.js';
import { openSafetensors, toFloat32 } from '../packages/weight-files/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { JudgeServer } from './judge-server.js';
import { writeTinyLlama } from './tiny-llama.js';
import { HAS_ALL_CASES } from './usual-cases.js';

// The complete product: compiled services as separate processes, a real Redis and a real trainer.

interface Stack {
  apiUrl: string;
  stop(): Promise<void>;
}

const ROWS = Array.from({ length: 24 }, (_, i) => ({
  messages: [
    { role: 'user', content: `Say ${i}.` },
    { role: 'assistant', content: `It is ${i}.` },
  ],
}));
const DATASET = `${ROWS.map((row) => JSON.stringify(row)).join('\n')}\n`;

let folder: string;
let stack: Stack;
let judge: Server;
let pairJudge: JudgeServer;
let client: ReturnType<typeof createClient>;
let dataset: string;

const request = (changes: JobRequest['training'] = {}): JobRequest => ({
  base_model: 'tiny-llama',
  dataset,
  validation: { split: 0.25 },
  lora: { r: 4, alpha: 8, target_modules: ['q_proj', 'v_proj'] },
  training: { epochs: 4, batch_size: 4, learning_rate: 0.01, precision: 'float32', ...changes },
});

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-flow-'));
  await makeDataFolder(path.join(folder, 'data'));
  for (const name of ['tiny-llama', 'other-llama', 'tool-llama'])
    await writeTinyLlama(path.join(folder, 'models', name));
  const tools = path.join(import.meta.dirname, '../packages/planning/test/fixtures/tools/cases.json');
  const { models } = JSON.parse(await readFile(tools, 'utf8'));
  await writeFile(path.join(folder, 'models/tool-llama/chat_template.jinja'), models['qwen2.5'].template);
  await mkdir(path.join(folder, 'models/classifier'));
  await writeTinyClassifier(path.join(folder, 'models/classifier'));
  // Tools take many characters, of which each is a token.
  const config = path.join(folder, 'models/tool-llama/config.json');
  const longer = { ...JSON.parse(await readFile(config, 'utf8')), max_position_embeddings: 2048 };
  await writeFile(config, JSON.stringify(longer));
  // The specifier is computed because the file is JavaScript without declarations.
  pairJudge = await new JudgeServer('sk-of-the-operator').start();
  const { startStack } = await import(new URL('../scripts/stack/start-stack.mjs', import.meta.url).href);
  stack = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir: path.join(folder, 'models'),
    env: {
      ...process.env,
      ...{ WEBHOOK_SECRET: `whsec_${'A'.repeat(43)}=`, WEBHOOK_ALLOW_PRIVATE: 'true' },
      ...{ JUDGE_SERVERS: [await startJudge(), pairJudge.url].join(), JUDGE_API_KEY: 'sk-of-the-operator' },
    },
  });
  client = createClient({ baseUrl: stack.apiUrl });
});

afterAll(async () => {
  await stack?.stop();
  judge?.close();
  pairJudge?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A server with the chat call of the OpenAI API. It gives a text its score: 1 if there is an `a`. @returns its base address */
async function startJudge(): Promise<string> {
  judge = createServer((message, response) => {
    void streamText(message).then((text) => {
      const [{ content }] = (JSON.parse(text) as { messages: [{ content: string }] }).messages;
      const isAllowed = message.headers.authorization === 'Bearer sk-of-the-operator';
      const said = `Points: ${content.includes('a') ? 1 : 0} of 10`;
      const answer = { choices: [{ message: { role: 'assistant', content: said } }], usage: { total_tokens: 3 } };
      response.writeHead(isAllowed ? 200 : 401).end(JSON.stringify(answer));
    });
  });
  judge.listen(0, '127.0.0.1');
  await once(judge, 'listening');
  return `http://127.0.0.1:${(judge.address() as AddressInfo).port}/v1`;
}

async function until(id: string, ...statuses: Job['status'][]): Promise<Job> {
  const deadline = Date.now() + 240_000;
  for (;;) {
    const job = await client.getJob(id);
    if (statuses.includes(job.status)) return job;
    if (Date.now() > deadline) throw new Error(`the job is ${job.status}: ${JSON.stringify(job.error)}`);
    await sleep(50);
  }
}

describe('a job', () => {
  let job: Job;
  const events: JobEvent[] = [];

  test('a dataset is uploaded, and a second upload returns the same one', async () => {
    const post = () =>
      fetch(`${stack.apiUrl}/datasets`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body: DATASET,
      });
    const first = await post();
    expect(first.status).toBe(201);
    const record = (await first.json()) as { id: string };
    expect(record).toMatchObject({ rows: 24, format: 'messages', bytes: Buffer.byteLength(DATASET) });
    dataset = record.id;
    expect(await (await post()).json()).toEqual(record);
  });

  test('a dry run reports the plan and queues nothing', async () => {
    const report = await client.dryRun(request());
    expect(report).toMatchObject({ rows: { total: 24, training: 18, validation: 6 }, steps: { total: 20 } });
    expect(report.parameters.modules).toHaveLength(6);
    expect(report.parameters.trained).toBe(3 * (4 * (48 + 48) + 4 * (48 + 16)));
    expect((await client.listJobs()).data).toEqual([]);
  });

  test('an invalid job is refused with the location of the fault, and nothing is queued', async () => {
    const answer = await fetch(`${stack.apiUrl}/jobs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...request(), lora: { r: 0 } }),
    });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { details: [{ param: 'lora.r' }] } });
    expect((await client.listJobs()).data).toEqual([]);
  });

  test('a job trains and reports all its events', async () => {
    job = await client.createJob(request(), { idempotencyKey: 'main-job' });
    expect(job.status).toBe('queued');
    for await (const event of client.events(job.id)) events.push(event);
    expect([...new Set(events.map(({ type }) => type))]).toEqual(
      expect.arrayContaining([
        'job-queued',
        'job-started',
        'report-ready',
        'step-finished',
        'evaluation-finished',
        'adapter-published',
      ]),
    );
    expect(events.at(-1)?.type).toBe('adapter-published');
    job = await client.getJob(job.id);
    expect(job).toMatchObject({ status: 'succeeded', attempts: 1, progress: { step: 20, total_steps: 20 } });
    expect((await client.createJob(request(), { idempotencyKey: 'main-job' })).id).toBe(job.id);
    expect((await client.listJobs()).data).toHaveLength(1);
  });

  test('the events of a job can be read from any position, as a stream and as JSON', async () => {
    const middle = events[2]?.id ?? '';
    const stream = await fetch(`${stack.apiUrl}/jobs/${job.id}/events`, {
      headers: { accept: 'text/event-stream', 'last-event-id': middle },
    });
    expect(stream.headers.get('content-type')).toContain('text/event-stream');
    const replayed = [...(await stream.text()).matchAll(/^data: ?(.*)$/gm)].map(([, data]) => JSON.parse(data ?? ''));
    expect(replayed).toEqual(events.slice(3));
    const list = await fetch(`${stack.apiUrl}/jobs/${job.id}/events?limit=100`, {
      headers: { accept: 'application/json' },
    });
    expect(await list.json()).toMatchObject({ data: events, has_more: false });
  });

  test('the manifest of its adapter describes the training', async () => {
    const manifest = await client.manifest(job.adapter ?? '');
    expect(manifest).toMatchObject({
      id: job.adapter,
      origin: { kind: 'trained', job: job.id, dataset: { id: dataset, rows: 24 }, result: { steps: 20 } },
    });
    const [adapter] = (await client.listAdapters()).data;
    expect(adapter?.bytes).toBeLessThanOrEqual(job.report?.adapter_bytes ?? 0);
    const { result } = manifest.origin as TrainedOrigin;
    expect(result.last_loss).toBeLessThan(result.first_loss);
    expect(result.evaluation_after?.loss).toBeLessThan(result.evaluation_before?.loss ?? 0);
  });

  test('it is compared with its base model, by a judge and by one that knows only the order', async () => {
    const compare = async () => {
      const { id } = await client.createComparison({
        ...{ models: [job.adapter ?? '', 'tiny-llama'], dataset, rows: 6, max_tokens: 12 },
        judge: { model: 'any', url: pairJudge.url, rubric: 'The longer one, as {{item.reference}}' },
      });
      const types: string[] = [];
      for await (const { type } of client.comparisonEvents(id)) types.push(type);
      expect(types.at(-1)).toBe('comparison-succeeded');
      const { data: rows } = await client.comparisonRows(id);
      return { result: (await client.getComparison(id)).result, rows };
    };
    const { result, rows } = await compare();
    expect(rows).toHaveLength(6);
    const outcomes = rows.map(({ answers: [a, b] }) => Math.sign(a!.text.length - b!.text.length));
    expect(rows.map(({ outcome }) => outcome)).toEqual(outcomes.map((sign) => ['loss', 'tie', 'win'][sign + 1]));
    expect(result).toMatchObject({ rows: 6, failed: 0, position_bias: 0 });
    expect(pairJudge.messages[0]).toMatch(/as It is \d+\./);
    pairJudge.judging = () => 'A';
    const again = await compare();
    // The same prompts have the same answers.
    expect(again.rows.map(({ answers }) => answers)).toEqual(rows.map(({ answers }) => answers));
    expect(again.result).toMatchObject({ ties: 6, win_rate: 0.5, verdict: 'undecided', position_bias: 1 });
  });

  test('the adapter is downloaded as a PEFT folder, the merged model as W + (alpha / r) B A', async () => {
    const adapterFolder = path.join(folder, 'adapter');
    const mergedFolder = path.join(folder, 'merged');
    await client.downloadAdapter(job.adapter ?? '', { folder: adapterFolder });
    await client.downloadAdapter(job.adapter ?? '', { folder: mergedFolder }, { weights: 'merged' });
    const config = JSON.parse(await readFile(path.join(adapterFolder, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ peft_type: 'LORA', r: 4, lora_alpha: 8 });
    for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']) {
      const ours = await readFile(path.join(mergedFolder, file), 'utf8');
      const base = await readFile(path.join(folder, 'models/tiny-llama', file), 'utf8');
      expect(JSON.stringify(file.endsWith('.json') ? JSON.parse(ours) : ours)).toBe(
        JSON.stringify(file.endsWith('.json') ? JSON.parse(base) : base),
      );
    }
    const adapter = await weightsOf(path.join(adapterFolder, 'adapter_model.safetensors'));
    const merged = await weightsOf(path.join(mergedFolder, 'model.safetensors'));
    const base = await weightsOf(path.join(folder, 'models/tiny-llama/model.safetensors'));
    expect([...merged.keys()].sort()).toEqual([...base.keys()].sort());
    for (const [name, weight] of base) {
      const key = `base_model.model.${name.replace(/\.weight$/, '')}`;
      const [a, b] = [adapter.get(`${key}.lora_A.weight`), adapter.get(`${key}.lora_B.weight`)];
      const expected = a && b ? mergedByHand(weight, a, b, 2) : weight;
      expect(merged.get(name)?.length).toBe(weight.length);
      expect(greatestDifference(merged.get(name) ?? new Float32Array(), expected)).toBeLessThan(1e-5);
    }
    expect(adapter.size).toBe(2 * 6);
  });
});

describe('text', () => {
  let openai: OpenAI;
  let adapter: string;
  beforeAll(async () => {
    openai = new OpenAI({ baseURL: `${stack.apiUrl}/v1`, apiKey: 'none', maxRetries: 0 });
    adapter = (await client.listAdapters()).data[0]?.id ?? '';
  });
  const asked = (model: string) => ({
    model,
    messages: [{ role: 'user' as const, content: 'Say 3.' }],
    temperature: 0,
    max_tokens: 12,
  });

  test('text of the adapter has the log-probabilities with which it was published', async () => {
    const url = `${stack.apiUrl}/v1`;
    const probe = await probeServer(await client.manifest(adapter), { url, model: adapter });
    expect(probe).toMatchObject({ verdict: 'adapter', adapter_distance: expect.closeTo(0, 4) });
    const ofBase = await probeServer(await client.manifest(adapter), { url, model: 'tiny-llama' });
    // The base alone answers in the precision that `auto` chose here, which may be another than that of the training.
    expect(ofBase).toMatchObject({ verdict: 'base' });
  });

  test('is the same streamed, beside others and again, and another one of the base model', async () => {
    const models = [adapter, 'tiny-llama', adapter, 'tiny-llama'];
    const [first, base, again, baseAgain] = await Promise.all(
      models.map((model) => openai.chat.completions.create(asked(model))),
    );
    expect(again!.choices).toEqual(first!.choices);
    expect(baseAgain!.choices).toEqual(base!.choices);
    expect(first!.choices[0]!.message.content).not.toBe(base!.choices[0]!.message.content);
    let streamed = '';
    for await (const { choices } of await openai.chat.completions.create({ ...asked(adapter), stream: true })) {
      streamed += choices[0]?.delta.content ?? '';
    }
    expect(streamed).toBe(first!.choices[0]!.message.content);
    expect(first!.usage!.completion_tokens).toBeGreaterThan(0);
  });

  test('text of a seed is the same, and several answers differ', async () => {
    const ask = async (seed: number) =>
      (await openai.completions.create({ model: adapter, prompt: 'It is', max_tokens: 24, n: 3, seed })).choices;
    const choices = await ask(5);
    expect(new Set(choices.map(({ text }) => text)).size).toBe(3);
    expect(await ask(5)).toEqual(choices);
    expect(await ask(6)).not.toEqual(choices);
  });

  test('scores: the sum over a text is higher with the adapter that was trained on it', async () => {
    const prompt = '<|im_start|>user\nSay 3.<|im_end|>\n<|im_start|>assistant\nIt is 3.<|im_end|>';
    const scoreOf = async (model: string) => {
      const answer = await openai.completions.create({ model, prompt, max_tokens: 0, echo: true, logprobs: 1 });
      const [choice] = answer.choices;
      expect(choice).toMatchObject({ text: prompt, finish_reason: 'length' });
      const { token_logprobs: scores = [], text_offset: offsets = [] } = choice!.logprobs!;
      expect(scores).toHaveLength(answer.usage!.prompt_tokens);
      expect([scores[0], offsets[0]]).toEqual([null, 0]);
      return scores.slice(1).reduce((sum, score) => sum + score, 0);
    };
    expect(await scoreOf(adapter)).toBeGreaterThan(await scoreOf('tiny-llama'));
  });

  test('text too long is refused with its length', async () => {
    const asking = openai.completions.create({ model: adapter, prompt: 'a'.repeat(3_000) });
    await expect(asking).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' });
    await expect(asking).rejects.toThrow('3000 tokens');
  });
});

describe('a job whose rows take longer than the answer may', () => {
  /** Rows whose size alone says that they take too long. */
  const conversations = (rows: number, turns: number, label: string) =>
    Array.from({ length: rows }, (_, row) =>
      JSON.stringify({
        messages: Array.from({ length: 2 * turns }, (_, i) => ({
          role: i % 2 === 0 ? 'user' : 'assistant',
          content: `${label} ${row}, message ${i}`,
        })),
      }),
    );

  test('is queued at once, and tokenizes first; its faults are those of a dry run', async () => {
    const rows = conversations(4_000, 2, 'row');
    // Too long for the default of max_seq_length.
    for (const index of [2, 3_999]) rows[index] = conversations(1, 60, 'long')[0]!;
    const { id } = await client.uploadDataset({ text: rows.join('\n') });
    const job = { ...request(), dataset: id };
    const queued = await client.createJob(job);
    const types: string[] = [];
    for await (const event of client.events(queued.id)) {
      types.push(event.type);
      if (event.type === 'tokenizing-progressed') expect(event.data.total_rows).toBe(4_000);
    }
    expect([...new Set(types)]).toEqual(['job-queued', 'job-started', 'tokenizing-progressed', 'job-failed']);
    const { error, report } = await client.getJob(queued.id);
    expect(report).toBeNull();
    expect(error?.details.map(({ line }) => line)).toEqual([3, 4_000]);
    const refused = await client.dryRun(job).catch((reason: unknown) => reason);
    expect(refused).toMatchObject({ code: error?.code, message: error?.message, details: error?.details });
  });
});

describe('cancelling', () => {
  test('stops a running and a queued job; an adapter answers beside them, and a small job ends', async () => {
    const long = request({ max_steps: 1_000_000, epochs: 1 });
    const running = await client.createJob(long);
    await until(running.id, 'running');
    // The adapter of the first job answers, and is deleted while it does.
    const openai = new OpenAI({ baseURL: `${stack.apiUrl}/v1`, apiKey: 'none', maxRetries: 0 });
    const [adapter] = (await client.listAdapters()).data;
    const ask = { model: adapter?.id ?? '', messages: [{ role: 'user' as const, content: 'Say 3.' }] };
    const stream = await openai.chat.completions.create({ ...ask, max_tokens: 60, stream: true });
    let finish: string | null | undefined;
    for await (const { choices } of stream) {
      if (finish === undefined) await client.deleteAdapter(ask.model);
      finish = choices[0]?.finish_reason ?? null;
    }
    expect(finish).toMatch(/^(stop|length)$/);
    await expect(openai.chat.completions.create(ask)).rejects.toMatchObject({ status: 404, code: 'model_not_found' });

    // It waits for its turn: the worker stays on its base model for now.
    const waiting = await client.createJob({ ...long, base_model: 'other-llama' });

    // A job on the same base model trains at the same time, and ends although the other one would take hours.
    const small = await client.createJob(request({ max_steps: 10 }));
    expect(await until(small.id, 'succeeded', 'failed')).toMatchObject({ status: 'succeeded', queue: null });
    const queueOf = async (id: string) => (await client.getJob(id)).queue;
    // The end is known once its worker has reported how fast it trains.
    await expect.poll(() => queueOf(running.id)).toMatchObject({ ahead: 0, estimated_end: expect.any(String) });
    expect((await queueOf(waiting.id))?.ahead).toBe(0);
    expect((await client.cancelJob(waiting.id)).status).toBe('cancelled');
    await client.cancelJob(running.id);
    await until(running.id, 'cancelled');
    const types = async (id: string) => {
      const seen: string[] = [];
      for await (const { type } of client.events(id)) seen.push(type);
      return seen;
    };
    expect(await types(waiting.id)).toEqual(['job-queued', 'job-cancelled']);
    expect((await types(running.id)).at(-1)).toBe('job-cancelled');
    expect((await client.listAdapters()).data).toHaveLength(1);
    await expect(client.cancelJob(running.id)).rejects.toMatchObject({ code: 'job_not_cancellable' });
  });

  test('leaves the worker free for the next job', async () => {
    const next = await client.createJob(request({ max_steps: 2 }));
    expect((await until(next.id, 'succeeded', 'failed')).error).toBeNull();
  });
});

test('a job evaluates on a dataset of its own, which is kept until the job has ended', async () => {
  const held = ROWS.slice(0, 5).map((_, i) => ({ prompt: `Say ${100 + i}.`, completion: `It is ${100 + i}.` }));
  const rows = held.map((row) => JSON.stringify(row)).join('\n');
  const { id, sha256 } = await client.uploadDataset({ text: rows });
  const validation = { dataset: id };
  const training = { epochs: 4, batch_size: 4, learning_rate: 0.01, eval_every_steps: 4, publish: 'best' as const };
  const job = await client.createJob({ ...request(), validation, training });
  await expect(client.deleteDataset(id)).rejects.toMatchObject({ code: 'in_use' });
  const ended = await until(job.id, 'succeeded', 'failed');
  expect(ended).toMatchObject({
    status: 'succeeded',
    report: { rows: { training: 24, validation: 5 }, validation_dataset: { id, rows: 5 } },
  });
  const { origin } = await client.manifest(ended.adapter ?? '');
  expect(origin).toMatchObject({ dataset: { id: dataset }, validation_dataset: { id, sha256, rows: 5 } });
  const { result } = origin as TrainedOrigin;
  expect(result.evaluation_after?.tokens).toBe(ended.report?.tokens.validation);
  expect(result.evaluation_after?.loss).toBeLessThan(result.evaluation_before?.loss ?? 0);
  await client.deleteDataset(id);
  // Its checkpoints are published without its datasets.
  const published = await client.publishCheckpoint(job.id, 'last');
  expect(await until(published.id, 'succeeded', 'failed')).toMatchObject({ status: 'succeeded', validation });
});

describe('a classifier', () => {
  test.runIf(HAS_ALL_CASES)(
    'is trained on features, evaluated by its accuracy, and merged as W + (alpha / r) B A',
    async () => {
      const rows = classifierRows(160).map((row) => JSON.stringify(row));
      const { id } = await client.uploadDataset({ text: rows.join('\n') });
      const queued = await client.createJob({
        base_model: 'classifier',
        dataset: id,
        validation: { split: 0.25 },
        lora: { r: 4, alpha: 8, target_modules: 'all-linear' },
        training: { epochs: 20, batch_size: 16, learning_rate: 0.02, precision: 'float32' },
      });
      const accuracies: number[] = [];
      const job = await client.waitForJob(queued.id, {
        onEvent: (event) => {
          if (event.type === 'evaluation-finished') accuracies.push(event.data.accuracy);
        },
      });
      expect(job).toMatchObject({ status: 'succeeded', report: { family: 'classifier', rows: { validation: 40 } } });
      expect(accuracies).toHaveLength(2);
      expect(accuracies[1]).toBeGreaterThan(Math.max(0.7, accuracies[0]!));

      const [adapterFolder, mergedFolder] = ['adapter', 'merged'].map((name) =>
        path.join(folder, `classifier-${name}`),
      );
      await client.downloadAdapter(job.adapter ?? '', { folder: adapterFolder! });
      await client.downloadAdapter(job.adapter ?? '', { folder: mergedFolder! }, { weights: 'merged' });
      const adapter = await weightsOf(path.join(adapterFolder!, 'adapter_model.safetensors'));
      const merged = await weightsOf(path.join(mergedFolder!, 'model.safetensors'));
      const base = await weightsOf(path.join(folder, 'models/classifier/model.safetensors'));
      expect([...adapter.values()].reduce((sum, { length }) => sum + length, 0)).toBe(job.report?.parameters.trained);
      for (const [name, weight] of base) {
        const key = `base_model.model.${name.replace(/\.weight$/, '')}`;
        const [a, b] = [adapter.get(`${key}.lora_A.weight`), adapter.get(`${key}.lora_B.weight`)];
        expect([name, a !== undefined]).toEqual([name, name.endsWith('.weight')]);
        const expected = a && b ? mergedByHand(weight, a, b, 2) : weight;
        expect(greatestDifference(merged.get(name) ?? new Float32Array(), expected)).toBeLessThan(1e-5);
      }
    },
  );
});

async function weightsOf(file: string): Promise<Map<string, Float32Array>> {
  const opened = await openSafetensors(file);
  try {
    const weights = new Map<string, Float32Array>();
    for (const [name, { dtype }] of opened.tensors) {
      weights.set(name, toFloat32(await opened.read(name), dtype as 'F32'));
    }
    return weights;
  } finally {
    await opened.close();
  }
}

/** W [out, in] + scale · B [out, r] A [r, in] in float64. */
function mergedByHand(weight: Float32Array, a: Float32Array, b: Float32Array, scale: number): Float32Array {
  const r = 4;
  const inFeatures = a.length / r;
  return weight.map((value, i) => {
    const [row, column] = [Math.floor(i / inFeatures), i % inFeatures];
    let sum = 0;
    for (let k = 0; k < r; k++) sum += (b[row * r + k] ?? 0) * (a[k * inFeatures + column] ?? 0);
    return value + scale * sum;
  });
}

function greatestDifference(one: Float32Array, other: Float32Array): number {
  return one.reduce((greatest, value, i) => Math.max(greatest, Math.abs(value - (other[i] ?? Number.NaN))), 0);
}

/** Receives one message. */
async function webhookReceiver() {
  const server = createServer();
  const received = new Promise<{ headers: Record<string, string>; text: string }>((resolve) => {
    const receive = async (message: IncomingMessage, response: ServerResponse) => {
      const body = await streamText(message);
      response.writeHead(200).end();
      resolve({ headers: message.headers as Record<string, string>, text: body });
    };
    server.on('request', (message, response) => void receive(message, response));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/hook`, received, close: () => server.close() };
}

describe("rows in OpenAI's format, with tools", () => {
  const TOOL = { type: 'function' as const, function: { name: 'add', parameters: { type: 'object' } } };
  const rows = Array.from({ length: 8 }, (_, i) => ({
    messages: [
      { role: 'user', content: [{ type: 'text', text: `${i} + 1?` }] },
      {
        role: 'assistant',
        content: null,
        tool_calls: [
          { id: `call_${i}`, type: 'function', function: { name: 'add', arguments: `{"a": ${i}, "b": 1}` } },
        ],
      },
      { role: 'tool', tool_call_id: `call_${i}`, content: String(i + 1) },
      { role: 'assistant', content: `It is ${i + 1}.`, weight: i % 2 },
    ],
    tools: [TOOL],
    parallel_tool_calls: false,
  }));

  test.runIf(HAS_ALL_CASES)(
    'are trained with a template that has tools, and refused by name with one that has none',
    async () => {
      const uploaded = await client.uploadDataset({ text: rows.map((row) => JSON.stringify(row)).join('\n') });
      const asked: JobRequest = {
        ...request({ epochs: 1, max_seq_length: 2048 }),
        dataset: uploaded.id,
        base_model: 'tool-llama',
        validation: {},
      };
      const without = client.dryRun({ ...asked, base_model: 'tiny-llama' });
      await expect(without).rejects.toMatchObject({
        code: 'chat_template_failed',
        details: expect.arrayContaining([
          expect.objectContaining({ line: 1, param: 'tools', message: expect.stringContaining('writes no tools') }),
        ]),
      });
      const receiver = await webhookReceiver();
      const sent = await client.createJob({ ...asked, webhook: { url: receiver.url } });
      const job = await until(sent.id, 'succeeded', 'failed');
      expect(job).toMatchObject({ status: 'succeeded', error: null });
      const { headers, text } = await receiver.received;
      const webhook = new Webhook(await client.webhookSecret()).verify(text, headers);
      expect(webhook).toMatchObject({ type: 'job.succeeded', data: { id: job.id, adapter: job.adapter } });
      receiver.close();
      const openai = new OpenAI({ baseURL: `${stack.apiUrl}/v1`, apiKey: 'none', maxRetries: 0 });
      const chat = { model: job.adapter ?? '', temperature: 0, max_tokens: 4, messages: [rows[0]!.messages[0]!] };
      const answers = await Promise.all(
        [[TOOL], undefined].map((tools) =>
          openai.chat.completions.create({ ...chat, tools } as OpenAI.ChatCompletionCreateParamsNonStreaming),
        ),
      );
      const [withTools, plain] = answers.map(({ usage }) => usage!.prompt_tokens);
      expect(withTools).toBeGreaterThan(plain! + 50);
    },
  );
});

describe('a sweep', () => {
  test('trains its variants, finds the one with the lowest loss on the held-out rows, and keeps its adapter alone', async () => {
    const rates = [0.01, 1e-6, 0.003];
    const space = { 'training.learning_rate': { values: rates }, 'lora.r': { values: [4, 2] } };
    const asked = { job: { ...request(), dataset: (await client.uploadDataset({ text: DATASET })).id }, space };
    const plan = await client.dryRunSweep(asked);
    expect(plan).toMatchObject({ jobs: 6, tokens: 6 * plan.variants[0]!.tokens! });
    const created = await client.createSweep(asked);
    const ended = await client.waitForSweep(created.id, { intervalMs: 50 });
    expect(ended).toMatchObject({ status: 'succeeded', metric: 'loss' });
    const losses = ended.variants.map(({ metric }) => metric!);
    const lowest = ended.variants[losses.indexOf(Math.min(...losses))]!;
    expect([ended.best, lowest.rank, lowest.adapter]).toEqual([lowest.job, 1, lowest.job.replace('job_', 'ad_')]);
    // A rate of a millionth learns nothing in 20 steps.
    expect(lowest.values['training.learning_rate']).not.toBe(1e-6);
    const { result } = (await client.manifest(lowest.adapter!)).origin as TrainedOrigin;
    expect([result.evaluation_after?.loss, result.adapter_step]).toEqual([lowest.metric, lowest.step]);
    await expect
      .poll(async () => {
        const { data } = await client.listAdapters({ limit: 100 });
        return data.filter(({ id }) => ended.variants.some(({ job }) => job.replace('job_', 'ad_') === id)).length;
      })
      .toBe(1);
    // They are ordinary jobs, which read the same tokens, and a repeated request is another sweep unless its key is the same.
    const jobs = await Promise.all(ended.variants.map(({ job }) => client.getJob(job)));
    expect(new Set(jobs.map(({ report }) => report?.tokens.total)).size).toBe(1);
    expect(jobs.map(({ sweep }) => sweep?.variant)).toEqual([1, 2, 3, 4, 5, 6]);
    await client.deleteSweep(ended.id);
    await expect(client.getSweep(ended.id)).rejects.toMatchObject({ code: 'sweep_not_found' });
  });

  test.runIf(HAS_ALL_CASES)('by halving trains all variants to the first rung, and one to its end', async () => {
    const { id: uploaded } = await client.uploadDataset({ text: DATASET });
    const rates = [1e-6, 0.01, 1e-5, 0.003];
    const created = await client.createSweep({
      job: { ...request(), dataset: uploaded },
      space: { 'training.learning_rate': { values: rates } },
      halving: { first_steps: 5 },
    });
    const ended = await client.waitForSweep(created.id, { intervalMs: 50 });
    expect(ended.rungs).toMatchObject([
      { step: 5, kept: [2, 4], stopped: [1, 3] },
      { step: 10, kept: expect.any(Array), stopped: expect.any(Array) },
    ]);
    const best = ended.variants.find(({ job }) => job === ended.best)!;
    expect([ended.status, best.rank, best.status, best.step]).toEqual(['succeeded', 1, 'succeeded', 20]);
    expect(ended.rungs[1]!.kept).toEqual([best.variant]);
    expect(ended.variants.map(({ step }) => step).toSorted((one, other) => one! - other!)).toEqual([5, 5, 10, 20]);
  });
});

describe('rewards of a webhook and of a judge', () => {
  test('train a job in its trainer as rewards from here do, and the address of the webhook is in no manifest', async () => {
    const grader = createServer();
    const received: { headers: Record<string, string>; text: string }[] = [];
    const grade = async (message: IncomingMessage, response: ServerResponse) => {
      const text = await streamText(message);
      received.push({ headers: message.headers as Record<string, string>, text });
      const { items } = (JSON.parse(text) as GradingBody).data;
      const rewards = items.map(({ completion, reference }) => (completion.includes(String(reference)) ? 1 : 0));
      response.writeHead(200).end(JSON.stringify({ rewards }));
    };
    grader.on('request', (message, response) => void grade(message, response));
    grader.listen(0, '127.0.0.1');
    await once(grader, 'listening');
    const url = `http://127.0.0.1:${(grader.address() as AddressInfo).port}/grade?token=secret`;
    const rows = Array.from({ length: 8 }, (_, i) => ({ prompt: `Say ${i}.`, reference: 'a' }));
    const { id } = await client.uploadDataset({ text: rows.map((row) => JSON.stringify(row)).join('\n') });
    const requestWith = (own: Grader): JobRequest => ({
      ...request({ epochs: 2, batch_size: 2, gradient_accumulation_steps: 1 }),
      dataset: id,
      objective: { kind: 'group-relative', grader: own, group_size: 4, max_completion_tokens: 6 },
    });
    const here: Grader = { type: 'string_check', reference: '{{item.reference}}', operation: 'like' };
    const jobs: Job[] = [];
    const judged: Grader = {
      ...{ type: 'score_model', url: `http://127.0.0.1:${(judge.address() as AddressInfo).port}/v1/`, model: 'any' },
      ...{ input: '{{sample.output_text}}', pattern: 'Points: (\\d)' },
    };
    for (const own of [{ type: 'webhook' as const, url }, here, judged]) {
      const sent = await client.createJob(requestWith(own));
      jobs.push(await until(sent.id, 'succeeded', 'failed'));
    }
    grader.close();
    expect(jobs.map(({ status, error }) => [status, error])).toEqual(Array(3).fill(['succeeded', null]));
    const weights = await Promise.all(
      jobs.map(async ({ adapter }) => (await client.manifest(adapter!)).files.map(({ sha256 }) => sha256)[1]),
    );
    expect(new Set(weights).size).toBe(1);
    const { data: events } = await client.listEvents(jobs[2]!.id);
    const rounds = events.flatMap((event) => (event.type === 'answers-graded' ? [event.data.judge_tokens] : []));
    expect(rounds.every((tokens) => tokens! > 0)).toBe(true);
    expect(rounds.length).toBeGreaterThan(0);
    const manifest = JSON.stringify(await client.manifest(jobs[0]!.adapter!));
    expect(manifest).toContain('"webhook"');
    expect(manifest).not.toContain('token=secret');
    const secret = await client.webhookSecret();
    const bodies = received.map(({ headers, text }) => new Webhook(secret).verify(text, headers) as GradingBody);
    const { total_steps: steps } = jobs[0]!.progress!;
    // An evaluation, and each step; the second evaluation only where its answers are others.
    const asked = bodies.map(({ data }) => data.step);
    expect(asked[0]).toBeNull();
    expect(asked.filter((step) => step !== null)).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
    expect(bodies[1]!.data).toMatchObject({ job: jobs[0]!.id, items: { length: 8 } });
  });
});
