import { rm } from 'node:fs/promises';
import {
  type Checkpoint,
  DATASET_FILES,
  FineTuningCheckpointList,
  FineTuningEventList,
  FineTuningJob,
  FineTuningJobList,
  type FineTuningRequest,
  type JobId,
  OpenaiErrorBody,
  OpenaiFile,
  OpenaiFileDeleted,
  OpenaiFileList,
  type Report,
} from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/queue';
import { Redis } from 'ioredis';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { adapterId, addBaseModel, publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

// OpenAI's files and fine-tuning jobs, with keys and a real Redis. This file is the worker: it writes to the records of jobs.

const MODEL = 'tiny-llama';
const ADAPTER = adapterId(1);
const BOUNDARY = 'a-boundary';

let server: RealRedis;
let redis: Redis;
let api: RealApi;
const tokens: Record<string, string> = {};
const keys: Record<string, string> = {};
let file: string;

beforeAll(async () => {
  server = await startRealRedis();
  const { prefix } = server;
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  const store = new KeyStore({ redis, prefix });
  for (const name of ['own', 'other']) {
    const { token, key } = await store.create({ name, role: 'train' });
    tokens[name] = token;
    keys[name] = key.id;
  }
  const limits = OPEN_ACCESS.limits;
  const access = createAccess({ redis, prefix, keys: store, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 });
  api = await startRealApi({ redisUrl: server.url, prefix, changes: { access } });
  await addBaseModel(`${api.folder}/models`, 'llama-tied');
  await publishReferenceAdapter(api.adapters, {
    id: ADAPTER,
    name: 'llama-tied',
    change(manifest) {
      manifest.owner = keys.own!;
    },
  });
});
afterAll(async () => {
  await api?.stop();
  await redis?.quit();
  await server?.stop();
});
beforeEach(async () => {
  file = (await upload(promptRows(8))).json().id;
});

/** Rows with two answers, as OpenAI has them. */
const pairRows = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    input: { messages: [{ role: 'user', content: `Say ${i}.` }] },
    preferred_output: [{ role: 'assistant', content: `${i}` }],
    non_preferred_output: [{ role: 'assistant', content: `It is ${i}.` }],
  }))
    .map((row) => `${JSON.stringify(row)}\n`)
    .join('');

type Method = 'GET' | 'HEAD' | 'POST' | 'DELETE';
const call = (method: Method, url: string, payload?: object, who = 'own') =>
  api.app.inject({
    method,
    url,
    headers: { authorization: `Bearer ${tokens[who]}` },
    ...(payload === undefined ? {} : { payload }),
  });
const get = (url: string, who?: string) => call('GET', url, undefined, who);
const post = (url: string, payload?: object, who?: string) => call('POST', url, payload, who);
type Answer = Awaited<ReturnType<typeof call>>;

const part = (name: string, content: string, filename?: string) =>
  `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"`}\r\n\r\n${content}\r\n`;
const PURPOSE = part('purpose', 'fine-tune');
const send = (parts: string, who = 'own', query = '') =>
  api.app.inject({
    method: 'POST',
    url: `/v1/files${query}`,
    headers: {
      authorization: `Bearer ${tokens[who]}`,
      'content-type': `multipart/form-data; boundary=${BOUNDARY}`,
    },
    payload: `${parts}--${BOUNDARY}--\r\n`,
  });
const upload = (rows: string, name = 'rows.jsonl', who?: string) => send(PURPOSE + part('file', rows, name), who);

const checked = (schema: TSchema, answer: Answer) => {
  expect(answer.statusCode).toBe(200);
  expect([...Value.Errors(schema, answer.json())]).toEqual([]);
  return answer.json();
};
/** Status, code and param of a refusal. */
const refusal = (answer: Answer) => {
  expect([...Value.Errors(OpenaiErrorBody, answer.json())]).toEqual([]);
  const { code, param } = answer.json().error;
  return [answer.statusCode, code, param];
};
const messageOf = (answer: Answer): string => answer.json().error.message;

const create = (fields: object = {}, who?: string) =>
  post('/v1/fine_tuning/jobs', { model: MODEL, training_file: file, ...fields }, who);
const created = async (fields?: Partial<FineTuningRequest>): Promise<JobId> => (await create(fields)).json().id;
const jobOf = async (id: JobId) => checked(FineTuningJob, await get(`/v1/fine_tuning/jobs/${id}`));

async function attemptOf(id: JobId): Promise<JobAttempt> {
  const start = await api.jobs.attempts.start(id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(start.reason);
  return start.attempt;
}

const stepOf = (step: number, loss: number) => ({
  type: 'step-finished' as const,
  data: {
    ...{ step, total_steps: 3, epoch: step, loss, accuracy: 0.5, learning_rate: 1e-4, grad_norm: 1 },
    ...{ tokens_per_second: 9, seconds_left: 1 },
  },
});

describe('a file', () => {
  test.each([
    ['after the file', part('file', promptRows(3), 'a.jsonl') + PURPOSE],
    ['before the file', PURPOSE + part('file', promptRows(3), 'a.jsonl')],
  ])('is uploaded with its purpose %s', async (_, parts) => {
    const found = checked(OpenaiFile, await send(parts));
    expect(found).toMatchObject({ filename: 'a.jsonl', purpose: 'fine-tune', bytes: promptRows(3).length });
    const dataset = (await get(`/datasets/${found.id}`)).json();
    expect(dataset).toMatchObject({ id: found.id, name: 'a.jsonl', rows: 3, owner: keys.own });
  });

  test('is a dataset, whichever API it was uploaded with, and its bytes are those that were sent', async () => {
    const rows = promptRows(5, 'raw');
    const headers = { authorization: `Bearer ${tokens.own}`, 'content-type': 'application/x-ndjson' };
    const dataset = (await api.app.inject({ method: 'POST', url: '/datasets', headers, payload: rows })).json();
    const same = checked(OpenaiFile, await upload(rows));
    expect(same).toMatchObject({ id: dataset.id, filename: `${dataset.id}.jsonl` });
    const content = await get(`/v1/files/${dataset.id}/content`);
    expect([content.body, content.headers['content-length']]).toEqual([rows, String(rows.length)]);
  });

  test('is described by HEAD without its rows being read', async () => {
    const rows = promptRows(5, 'head');
    const { id } = checked(OpenaiFile, await upload(rows));
    const url = `/v1/files/${id}/content`;
    const read = await get(url);
    await rm(`${api.folder}/datasets/${id}/${DATASET_FILES.rows}`);
    const head = await call('HEAD', url);
    expect([head.statusCode, head.body]).toEqual([200, '']);
    for (const name of ['content-type', 'content-length']) expect(head.headers[name]).toBe(read.headers[name]);
    await call('DELETE', `/v1/files/${id}`);
    expect((await call('HEAD', url)).statusCode).toBe(404);
  });

  test('says what was mapped and left out in its rows', async () => {
    const rows = '{"id":1,"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}\n';
    const found = checked(OpenaiFile, await upload(rows));
    expect(found.status_details).toBe(
      'ShareGPT\'s "conversations" became "messages". Columns that are not used were left out: "id".',
    );
    const twice = checked(OpenaiFile, await upload('{"text":"twice"}\n{"text":"twice"}\n'));
    expect(twice.status_details).toBeNull();
    for (const { id } of [found, twice]) await call('DELETE', `/v1/files/${id}`);
  });

  test('is listed in pages, by time in both orders', async () => {
    const all = checked(OpenaiFileList, await get('/v1/files?purpose=fine-tune')).data.map(
      ({ id }: { id: string }) => id,
    );
    expect(all.length).toBeGreaterThan(2);
    const pages: string[] = [];
    for (let after = ''; ; after = `&after=${pages.at(-1)}`) {
      const page = checked(OpenaiFileList, await get(`/v1/files?limit=2&order=asc${after}`));
      expect([page.first_id, page.last_id]).toEqual([page.data[0].id, page.data.at(-1).id]);
      pages.push(...page.data.map(({ id }: { id: string }) => id));
      if (!page.has_more) break;
    }
    expect(pages).toEqual([...all].reverse());
    expect(refusal(await get('/v1/files?purpose=assistants'))).toEqual([400, 'invalid_request', 'purpose']);
    expect(refusal(await get('/v1/files?after=file-abc'))).toEqual([400, 'invalid_request', 'after']);
  });

  test.each([
    ['another purpose', part('purpose', 'assistants') + part('file', promptRows(2), 'a'), 'invalid_request', 'purpose'],
    ['no purpose', part('file', promptRows(2, 'no purpose'), 'a'), 'invalid_request', 'purpose'],
    ['no file', PURPOSE, 'invalid_request', 'file'],
    ['two files', PURPOSE + part('file', '{"text":"a"}\n', 'a').repeat(2), 'invalid_request', null],
    [
      'a time to expire',
      `${PURPOSE}${part('expires_after[anchor]', 'created_at')}${part('file', promptRows(2), 'a')}`,
      'unknown_field',
      'expires_after[anchor]',
    ],
    [
      'a name of 129 characters',
      PURPOSE + part('file', promptRows(2, 'long'), 'x'.repeat(129)),
      'invalid_request',
      'file',
    ],
    ['no rows', PURPOSE + part('file', '', 'a'), 'dataset_empty', null],
  ])('a file with %s is refused, and stores nothing', async (_, parts, code, param) => {
    const before = (await get('/v1/files')).json().data.length;
    expect(refusal(await send(parts))).toEqual([400, code, param]);
    expect((await get('/v1/files')).json().data).toHaveLength(before);
  });

  test('a file with a wrong row is refused with the fault', async () => {
    const answer = await upload('{"messages": [{"role": "root", "content": "x"}]}\n');
    expect(refusal(answer)).toEqual([400, 'invalid_dataset', null]);
    expect(messageOf(answer)).toContain('allowed values: system');
  });

  test('a file with several wrong rows names the line of each, and how many more there are', async () => {
    const good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n';
    const bad = '{"messages": [{"role": "root", "content": "x"}]}\n';
    const answer = await upload(`${good}${bad}${good}{"messages":\n`);
    expect(refusal(answer)).toEqual([400, 'invalid_dataset', null]);
    expect(messageOf(answer)).toMatch(/^2 lines are wrong\. Nothing was stored\. Line 2, messages\.0\.role: .*system/);
    expect(messageOf(answer)).toMatch(/ Line 4: The line is not JSON: /);
    const many = messageOf(await upload(good + bad.repeat(60)));
    expect([...many.matchAll(/Line (\d+),/g)].map(([, line]) => Number(line))).toEqual(
      Array.from({ length: 10 }, (_, i) => i + 2),
    );
    expect(many).toMatch(/ There are 50 more faults\.$/);
    const longest = messageOf(await upload(`{"${'x'.repeat(30_000)}": 1}\n`.repeat(20)));
    expect(longest.length).toBeLessThanOrEqual(4_000);
  });

  test('a CSV file is taken, and a parameter says what its columns are', async () => {
    const csv = PURPOSE + part('file', 'id;question;answer\n1;a;b\n', 'faq.csv');
    const answer = checked(OpenaiFile, await send(csv, 'own', '?columns=prompt:question,completion:answer'));
    expect([answer.filename, answer.status_details]).toEqual([
      'faq.csv',
      '"question" became "prompt", "answer" became "completion". Columns that are not used were left out: "id".',
    ]);
    const content = await get(`/v1/files/${answer.id}/content`);
    expect(content.body).toBe('\n{"prompt":"a","completion":"b"}\n');
    expect(refusal(await send(csv, 'own', '?columns=answer'))).toEqual([400, 'invalid_request', 'columns']);
    expect(messageOf(await send(csv))).toContain('columns=prompt:NAME,completion:NAME');
    await call('DELETE', `/v1/files/${answer.id}`);
  });

  test('a file of another kind is refused by the name of the kind', async () => {
    const answer = await upload('%PDF-1.7');
    expect(refusal(answer)).toEqual([400, 'invalid_dataset', null]);
    expect(messageOf(answer)).toContain('This is a PDF.');
  });

  test('a file that is not a form is refused', async () => {
    expect(refusal(await post('/v1/files', { purpose: 'fine-tune' }))).toEqual([415, 'unsupported_media_type', null]);
    expect(refusal(await post('/v1/files'))).toEqual([400, 'invalid_request', 'file']);
  });

  test('is deleted, unless an unfinished job reads it', async () => {
    const { id } = (await upload(promptRows(4, 'deleted'))).json();
    const job = (await create({ training_file: id })).json().id;
    expect(refusal(await call('DELETE', `/v1/files/${id}`))).toEqual([409, 'in_use', 'id']);
    await post(`/v1/fine_tuning/jobs/${job}/cancel`);
    expect(checked(OpenaiFileDeleted, await call('DELETE', `/v1/files/${id}`))).toMatchObject({ id, deleted: true });
    expect(refusal(await get(`/v1/files/${id}`))).toEqual([404, 'dataset_not_found', 'id']);
    expect(refusal(await get(`/v1/files/${id}/content`))).toEqual([404, 'dataset_not_found', 'id']);
  });

  test('a file of another key looks as if it did not exist', async () => {
    for (const path of [`/v1/files/${file}`, `/v1/files/${file}/content`]) {
      expect(refusal(await get(path, 'other'))).toEqual([404, 'dataset_not_found', 'id']);
    }
    expect(refusal(await call('DELETE', `/v1/files/${file}`, undefined, 'other'))[0]).toBe(404);
    expect((await get('/v1/files', 'other')).json().data).toEqual([]);
    expect((await upload(promptRows(8), 'a', 'other')).json().id).not.toBe(file);
  });
});

describe('a fine-tuning job', () => {
  test('is the job that the own API has', async () => {
    const validation = (await upload(promptRows(2, 'validation'))).json().id;
    const answer = await create({
      validation_file: validation,
      suffix: 'Support tone!',
      seed: 5,
      metadata: { team: 'a' },
      method: {
        type: 'supervised',
        supervised: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 1.8 } },
      },
      integrations: [],
    });
    const made = checked(FineTuningJob, answer);
    expect(made).toMatchObject({
      status: 'queued',
      model: MODEL,
      training_file: file,
      validation_file: validation,
      user_provided_suffix: 'Support tone!',
      seed: 5,
      metadata: { team: 'a' },
      method: { supervised: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 1.8 } } },
      organization_id: keys.own,
      ...{ fine_tuned_model: null, finished_at: null, trained_tokens: null, error: null, result_files: [] },
    });
    expect((await get(`/jobs/${made.id}`)).json()).toMatchObject({
      base_model: MODEL,
      dataset: file,
      validation: { dataset: validation, split: 0 },
      lora: { target_modules: 'all-linear', init_from: null },
      training: { epochs: 2, batch_size: 4, seed: 5, on_overflow: 'truncate', max_seq_length: 256 },
      name: 'Support tone!',
      metadata: { team: 'a' },
    });
    const own = (await post('/jobs', { base_model: MODEL, dataset: file, training: { epochs: 0.5 } })).json().id;
    expect(await jobOf(own)).toMatchObject({ id: own, hyperparameters: { n_epochs: 0.5 } });
  });

  test('of the method dpo is a job of preferences', async () => {
    const training_file = (await upload(pairRows(8))).json().id;
    const given = { beta: 0.3, n_epochs: 2, batch_size: 4, learning_rate_multiplier: 2 };
    const made = checked(
      FineTuningJob,
      await create({ training_file, method: { type: 'dpo', dpo: { hyperparameters: given } } }),
    );
    expect(made.method).toEqual({ type: 'dpo', dpo: { hyperparameters: given } });
    expect((await get(`/jobs/${made.id}`)).json()).toMatchObject({
      objective: { kind: 'preference', loss: 'sigmoid', beta: 0.3, label_smoothing: 0, sft_weight: 0 },
      training: { epochs: 2, batch_size: 4, learning_rate: 1e-5 },
    });
    const auto = { beta: 'auto', n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' } as const;
    for (const dpo of [undefined, {}, { hyperparameters: auto }]) {
      const method = { type: 'dpo', ...(dpo === undefined ? {} : { dpo }) };
      const { method: answered } = checked(FineTuningJob, await create({ training_file, method }));
      // 80 steps of one pair, with a rate that moves the adapter in so few.
      const hyperparameters = { beta: 0.1, n_epochs: 10, batch_size: 1, learning_rate_multiplier: 24 };
      expect(answered).toEqual({ type: 'dpo', dpo: { hyperparameters } });
    }
    const request = { base_model: MODEL, dataset: training_file, objective: { kind: 'preference' } };
    const { warnings } = (await post('/jobs?dry_run=true', request)).json();
    expect(warnings).toMatchObject([{ code: 'schedule_moves_nothing', param: 'training.learning_rate' }]);
    const learning = { ...request, training: { epochs: 10, batch_size: 1, learning_rate: 24 * 5e-6 } };
    expect((await post('/jobs?dry_run=true', learning)).json().warnings).toEqual([]);
    const supervised = await create({ training_file });
    expect(refusal(supervised)).toEqual([400, 'invalid_job', 'method.type']);
    expect(messageOf(supervised)).toContain('{"type": "dpo"}');
    const unpaired = await create({ method: { type: 'dpo' } });
    expect(refusal(unpaired)).toEqual([400, 'invalid_job', 'training_file']);
    expect(messageOf(unpaired)).toContain('the format prompt_completion');
  });

  test('of POST /jobs whose answers are graded has the method reinforcement', async () => {
    const rows = Array.from({ length: 8 }, (_, i) => `${JSON.stringify({ prompt: `Say ${i}.`, reference: i })}\n`);
    const dataset = (await upload(rows.join(''))).json().id;
    const grader = { type: 'number', reference: '{{item.reference}}' };
    const request = {
      base_model: MODEL,
      dataset,
      objective: { kind: 'group-relative', grader, max_completion_tokens: 8 },
    };
    const { groups } = (await post('/jobs?dry_run=true', request)).json();
    expect(groups).toMatchObject({ prompts: 8, answers_per_step: 64 });
    const job = (await post('/jobs', request)).json();
    expect(job).toMatchObject({
      objective: { kind: 'group-relative', grader, group_size: 8, normalization: 'dapo', clip_high: null },
      training: { batch_size: 1, gradient_accumulation_steps: 8, learning_rate: 5e-6 },
    });
    const { method } = checked(FineTuningJob, await get(`/v1/fine_tuning/jobs/${job.id}`));
    const hyperparameters = { n_epochs: 3, batch_size: 1, learning_rate_multiplier: 1 };
    expect(method).toEqual({ type: 'reinforcement', reinforcement: { grader, hyperparameters } });
    const unread = {
      ...request,
      objective: { ...request.objective, grader: { ...grader, reference: '{{item.answer}}' } },
    };
    const refused = (await post('/jobs', unread)).json().error;
    expect(refused).toMatchObject({ code: 'invalid_dataset', param: 'reference' });
    expect(refused.details).toHaveLength(8);
  });

  test.each([
    ['nothing', {}],
    ['auto', { hyperparameters: { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' } }],
    ['nulls', { hyperparameters: null, method: null, suffix: null, seed: null, metadata: null, validation_file: null }],
    ['a method alone', { method: { type: 'supervised' }, integrations: null }],
  ] as const)('has the defaults for %s', async (_, fields) => {
    const { hyperparameters, seed } = checked(FineTuningJob, await create(fields));
    // The file has 8 rows: 80 steps of one row.
    expect([hyperparameters, seed]).toEqual([{ n_epochs: 10, batch_size: 1, learning_rate_multiplier: 2 }, 42]);
  });

  test('chooses batches and epochs by the rows of the file, around what is given', async () => {
    const large = (await upload(promptRows(150, 'large'))).json().id;
    const chosen = async (fields: Partial<FineTuningRequest>) =>
      checked(FineTuningJob, await create({ training_file: large, ...fields })).hyperparameters;
    expect(await chosen({})).toMatchObject({ n_epochs: 6, batch_size: 8 });
    expect(await chosen({ hyperparameters: { batch_size: 2 } })).toMatchObject({ n_epochs: 3, batch_size: 2 });
    expect(await chosen({ hyperparameters: { n_epochs: 1 } })).toMatchObject({ n_epochs: 1, batch_size: 8 });
  });

  test.each([
    ['an id', ADAPTER],
    ['a fine-tuned model', `ft:llama-tied:lorasmith:a-name:${ADAPTER}`],
  ])('trains an adapter further that is named by %s', async (_, model) => {
    const rows = `${JSON.stringify({ text: 'abc' })}\n`.repeat(2);
    const training_file = (await upload(rows)).json().id;
    const answer = await create({ model, training_file });
    // The reference model has no tokenizer: its rows cannot be planned. It is the right model, though.
    expect(messageOf(answer)).toContain('tokenizer.json');
    expect(refusal(await create({ model, training_file }, 'other'))[0]).toBe(404);
  });

  test.each([
    ['another method', { method: { type: 'kto' } }, 'method.type', 'only supervised and dpo'],
    [
      'a beta of 0',
      { method: { type: 'dpo', dpo: { hyperparameters: { beta: 0 } } } },
      'method.dpo.hyperparameters.beta',
      '0',
    ],
    ['reinforcement', { method: { type: 'reinforcement', reinforcement: {} } }, 'method.type', 'reinforcement'],
    ['settings of another method', { method: { type: 'supervised', dpo: {} } }, 'method.dpo', 'not supported'],
    ['supervised settings of dpo', { method: { type: 'dpo', supervised: {} } }, 'method.supervised', 'not supported'],
    ['integrations', { integrations: [{ type: 'wandb' }] }, 'integrations', 'not supported'],
    [
      'hyperparameters in both places',
      { hyperparameters: {}, method: { type: 'supervised', supervised: { hyperparameters: {} } } },
      'hyperparameters',
      'not both',
    ],
    ['half an epoch', { hyperparameters: { n_epochs: 0.5 } }, 'hyperparameters.n_epochs', 'must be string or integer'],
    ['51 epochs', { hyperparameters: { n_epochs: 51 } }, 'hyperparameters.n_epochs', 'must be <= 50'],
    [
      'a rate of 0',
      { hyperparameters: { learning_rate_multiplier: 0 } },
      'hyperparameters.learning_rate_multiplier',
      '0',
    ],
    ['a long suffix', { suffix: 'x'.repeat(65) }, 'suffix', '64'],
    ['a negative seed', { seed: -1 }, 'seed', '0'],
    [
      '17 pairs of metadata',
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, ''])) },
      'metadata',
      '16',
    ],
    ['a long value', { metadata: { a: 'x'.repeat(513) } }, 'metadata.a', '512'],
  ])('refuses %s by name', async (_, fields, param, part) => {
    const answer = await create(fields);
    expect(refusal(answer)).toEqual([400, 'invalid_request', param]);
    expect(messageOf(answer)).toContain(part);
  });

  test.each([
    ['an unknown field', { callbacks: [] }, [400, 'unknown_field', 'callbacks']],
    ['a field of the own API', { lora: { r: 4 } }, [400, 'unknown_field', 'lora']],
    ['an unknown hyperparameter', { hyperparameters: { beta: 1 } }, [400, 'unknown_field', 'hyperparameters.beta']],
    ['an unknown file', { training_file: 'file-abc' }, [404, 'dataset_not_found', 'training_file']],
    ['a file that is gone', { training_file: `ds_${'0'.repeat(24)}` }, [404, 'dataset_not_found', 'training_file']],
    ['an unknown file for validation', { validation_file: '../x' }, [404, 'dataset_not_found', 'validation_file']],
    [
      'a file for validation that is gone',
      { validation_file: `ds_${'0'.repeat(24)}` },
      [404, 'dataset_not_found', 'validation_file'],
    ],
    ['an unknown model', { model: 'gpt-4o-mini-2024-07-18' }, [404, 'model_not_found', 'model']],
    ['an unknown adapter', { model: `ft:${MODEL}:lorasmith::${adapterId(9)}` }, [404, 'model_not_found', 'model']],
    ['a checkpoint', { model: `ft:${MODEL}:lorasmith::job_x:ckpt-step-3` }, [404, 'model_not_found', 'model']],
  ])('refuses %s', async (_, fields, expected) => {
    expect(refusal(await create(fields))).toEqual(expected);
  });

  test('is listed with those of the own API, newest first, in pages', async () => {
    const ids = [
      await created(),
      (await post('/jobs', { base_model: MODEL, dataset: file })).json().id,
      await created(),
    ];
    const first = checked(FineTuningJobList, await get('/v1/fine_tuning/jobs?limit=2'));
    const rest = checked(FineTuningJobList, await get(`/v1/fine_tuning/jobs?limit=1&after=${ids[1]}`));
    const listed = [...first.data, ...rest.data].map(({ id }: { id: string }) => id);
    expect([listed, first.has_more]).toEqual([ids.reverse(), true]);
    expect(refusal(await get('/v1/fine_tuning/jobs?after=ftjob-1'))).toEqual([400, 'invalid_request', 'after']);
    expect(refusal(await get('/v1/fine_tuning/jobs?metadata[a]=b'))).toEqual([400, 'unknown_field', 'metadata[a]']);
    expect((await get('/v1/fine_tuning/jobs', 'other')).json().data).toEqual([]);
  });

  test('repeats with the same Idempotency-Key', async () => {
    const repeat = (fields: object) =>
      api.app.inject({
        method: 'POST',
        url: '/v1/fine_tuning/jobs',
        headers: { authorization: `Bearer ${tokens.own}`, 'idempotency-key': 'k-1' },
        payload: { model: MODEL, training_file: file, ...fields },
      });
    expect((await repeat({})).json().id).toBe((await repeat({ integrations: null })).json().id);
    expect(refusal(await repeat({ seed: 1 }))).toEqual([409, 'idempotency_conflict', null]);
  });

  test('goes through its statuses: validating, running, paused, resumed, cancelled', async () => {
    const id = await created();
    const attempt = await attemptOf(id);
    expect((await jobOf(id)).status).toBe('validating_files');
    const report = {
      steps: { total: 3 },
      tokens: { total: 9 },
      rows: { training: 8 },
      warnings: [],
    } as unknown as Report;
    await api.jobs.attempts.record(attempt, { type: 'report-ready', data: { report } });
    expect(checked(FineTuningJob, await post(`/v1/fine_tuning/jobs/${id}/pause`)).status).toBe('running');
    await api.jobs.attempts.release(attempt);
    expect(await jobOf(id)).toMatchObject({ status: 'paused', estimated_finish: null, finished_at: null });
    expect(checked(FineTuningJob, await post(`/v1/fine_tuning/jobs/${id}/resume`)).status).toBe('queued');
    const cancelled = checked(FineTuningJob, await post(`/v1/fine_tuning/jobs/${id}/cancel`));
    expect(cancelled).toMatchObject({ status: 'cancelled', finished_at: expect.any(Number) });
    expect(refusal(await post(`/v1/fine_tuning/jobs/${id}/pause`))).toEqual([409, 'job_not_pausable', null]);
    expect(refusal(await post(`/v1/fine_tuning/jobs/${id}/cancel`))).toEqual([409, 'job_not_cancellable', null]);
  });

  test('a fine-tuning job that failed says why, with the field of the request', async () => {
    const id = await created();
    const details = [{ code: 'row_too_long', message: 'Too long.', param: 'training.max_seq_length', line: 2 }];
    await api.jobs.attempts.fail(await attemptOf(id), { code: 'row_too_long', message: 'A row is too long.', details });
    expect(await jobOf(id)).toMatchObject({
      status: 'failed',
      error: { code: 'row_too_long', message: 'A row is too long.', param: 'training_file' },
    });
  });

  test('has events, newest first, in pages', async () => {
    const id = await created();
    const attempt = await attemptOf(id);
    for (const step of [1, 2]) await api.jobs.attempts.record(attempt, stepOf(step, 3 - step));
    await api.jobs.attempts.fail(attempt, { code: 'trainer_crashed', message: 'It went away.', details: [] });
    const found: { id: string; level: string; type: string; message: string; data: object }[] = [];
    for (let after = ''; ; after = `&after=${found.at(-1)!.id}`) {
      const page = checked(FineTuningEventList, await get(`/v1/fine_tuning/jobs/${id}/events?limit=2${after}`));
      found.push(...page.data);
      if (!page.has_more) break;
    }
    expect(found.map(({ level, type, message }) => [level, type, message])).toEqual([
      ['error', 'message', 'The job failed: It went away.'],
      ['info', 'metrics', 'Step 2/3: training loss=1.00'],
      ['info', 'metrics', 'Step 1/3: training loss=2.00'],
      ['info', 'message', 'A worker has started attempt 1 and validates the files'],
      ['info', 'message', `Created fine-tuning job: ${id}`],
    ]);
    expect(found[1]!.data).toMatchObject({ step: 2, total_steps: 3, train_loss: 1 });
    const url = `/v1/fine_tuning/jobs/${id}/events`;
    expect(refusal(await get(`${url}?after=ftevent-1`))).toEqual([400, 'invalid_request', 'after']);
    expect(refusal(await get(`${url}?stream=true`))).toEqual([400, 'unknown_field', 'stream']);
  });

  test('has checkpoints, in pages', async () => {
    const id = await created({ suffix: 'tone' });
    const attempt = await attemptOf(id);
    const checkpoint = (step: number, more: Partial<Checkpoint> = {}): Checkpoint => ({
      ...{ object: 'checkpoint', job: id, step, epoch: 1, train_loss: 2, eval_loss: null, is_best: false },
      ...{ is_last: false, bytes: 10, created_at: '2026-01-02T03:04:05.000Z', ...more },
    });
    const stored = [checkpoint(20), checkpoint(10, { eval_loss: 1.5 })];
    await api.jobs.attempts.record(attempt, { type: 'checkpoint-saved', data: { step: 20 } }, stored);
    const url = `/v1/fine_tuning/jobs/${id}/checkpoints`;
    const first = checked(FineTuningCheckpointList, await get(`${url}?limit=1`));
    expect(first).toMatchObject({ has_more: true, first_id: first.last_id });
    expect(first.data[0]).toMatchObject({
      created_at: 1767323045,
      fine_tuned_model_checkpoint: `ft:${MODEL}:lorasmith:tone:${id}:ckpt-step-20`,
      metrics: { step: 20, train_loss: 2 },
    });
    const next = checked(FineTuningCheckpointList, await get(`${url}?after=${first.last_id}`));
    expect(next).toMatchObject({ has_more: false, data: [{ step_number: 10, metrics: { full_valid_loss: 1.5 } }] });
    expect(refusal(await get(`${url}?after=x`))).toEqual([400, 'invalid_request', 'after']);
  });

  test('a fine-tuning job that succeeded has a model and a file of its metrics', async () => {
    const id = await created({ suffix: 'Tone 2' });
    const result = `res_${id.slice(4)}`;
    const attempt = await attemptOf(id);
    const evaluation = { perplexity: null, accuracy: 0.625, tokens: 5, trained_tokens: 5 };
    const { record } = api.jobs.attempts;
    await record(attempt, { type: 'evaluation-finished', data: { step: 0, loss: 4, ...evaluation } });
    // Step 2 was done twice, because the trainer had to start again.
    for (const [step, loss] of [
      [1, 3],
      [2, 2.75],
      [2, 2.5],
      [3, 2],
    ] as const)
      await record(attempt, stepOf(step, loss));
    await record(attempt, { type: 'evaluation-finished', data: { step: 3, loss: 1.25, ...evaluation } });
    expect(refusal(await get(`/v1/files/${result}`))).toEqual([404, 'dataset_not_found', 'id']);
    await api.jobs.attempts.succeed(attempt, adapterId(7), 3);
    expect(await jobOf(id)).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: `ft:${MODEL}:lorasmith:tone-2:${adapterId(7)}`,
      result_files: [result],
      // There is no such adapter any more.
      trained_tokens: null,
    });
    const content = await get(`/v1/files/${result}/content`);
    expect(content.headers['content-type']).toContain('text/csv');
    expect(content.body.split('\n')).toEqual([
      'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy',
      '0,,,4,0.625',
      '1,3,0.5,,',
      '2,2.5,0.5,,',
      '3,2,0.5,1.25,0.625',
      '',
    ]);
    const described = checked(OpenaiFile, await get(`/v1/files/${result}`));
    expect(described).toMatchObject({ id: result, purpose: 'fine-tune-results', bytes: content.body.length });
    expect(refusal(await call('DELETE', `/v1/files/${result}`))).toEqual([409, 'in_use', null]);
    expect(refusal(await get(`/v1/files/${result}/content`, 'other'))).toEqual([404, 'dataset_not_found', 'id']);
  });

  test('a fine-tuning job of another key looks as if it did not exist', async () => {
    const id = await created();
    for (const path of ['', '/events', '/checkpoints']) {
      expect(refusal(await get(`/v1/fine_tuning/jobs/${id}${path}`, 'other'))[1]).toBe('job_not_found');
    }
    for (const verb of ['cancel', 'pause', 'resume']) {
      expect(refusal(await post(`/v1/fine_tuning/jobs/${id}/${verb}`, undefined, 'other'))[1]).toBe('job_not_found');
    }
    expect(refusal(await create({}, 'other'))).toEqual([404, 'dataset_not_found', 'training_file']);
    expect((await jobOf(id)).status).toBe('queued');
  });
});
