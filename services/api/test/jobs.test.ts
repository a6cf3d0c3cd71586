import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorBody, Job, JobPage, Report } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { absentRedisUrl, type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

let server: RealRedis;
let api: RealApi;
let dataset: string;

beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
  dataset = (await uploadTo(api, promptRows(20))).json().id;
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});

function uploadTo(target: RealApi, payload: string) {
  return target.app.inject({ method: 'POST', url: '/datasets', payload, headers: { 'content-type': 'text/plain' } });
}

function post(body: object, options: { query?: string; headers?: Record<string, string>; to?: RealApi } = {}) {
  const { query = '', headers = {}, to = api } = options;
  return to.app.inject({ method: 'POST', url: `/jobs${query}`, payload: body, headers });
}

const request = (changes: object = {}) => ({ base_model: 'tiny-llama', dataset, ...changes });
const count = async () => (await api.jobs.listJobs({ limit: 100 })).data.length;

describe('POST /jobs', () => {
  test('queues the job with every default filled in', async () => {
    const answer = await post(request({ name: 'mine', lora: { r: 4 }, metadata: { team: 'a' } }));
    expect(answer.statusCode).toBe(202);
    const job = answer.json();
    expect(Value.Check(Job, job)).toBe(true);
    expect(answer.headers.location).toBe(`/jobs/${job.id}`);
    expect(job).toMatchObject({
      status: 'queued',
      name: 'mine',
      metadata: { team: 'a' },
      validation: { split: 0, dataset: null },
      lora: { r: 4, alpha: 16, target_modules: 'all-linear', init_from: null },
      training: { epochs: 3, batch_size: 8, max_grad_norm: 1, seed: 42 },
    });
    // No worker runs, so nobody knows when it starts.
    const unknown = { estimated_start: null, estimated_end: null };
    const queue = { ahead: expect.any(Number), reason: 'no-worker', ...unknown };
    expect((await api.app.inject(`/jobs/${job.id}`)).json()).toEqual({ ...job, queue });
  });

  test('POST /jobs with dry_run returns the report and queues nothing', async () => {
    const before = await count();
    const answer = await post(request({ validation: { split: 0.25 } }), { query: '?dry_run=true' });
    expect(answer.statusCode).toBe(200);
    const report = answer.json();
    expect(Value.Check(Report, report)).toBe(true);
    expect(report).toMatchObject({
      base_model: 'tiny-llama',
      rows: { total: 20, training: 15, validation: 5 },
      steps: { total: 6 },
    });
    expect(await count()).toBe(before);
  });

  test('evaluates on a dataset of its own, and locates its faults', async () => {
    const held = promptRows(6, 'held out');
    const validation = { dataset: (await uploadTo(api, held)).json().id };
    const report = (await post(request({ validation }), { query: '?dry_run=true' })).json();
    expect(Value.Check(Report, report)).toBe(true);
    expect(report).toMatchObject({
      rows: { total: 20, training: 20, validation: 6 },
      validation_dataset: { id: validation.dataset, rows: 6, overflowed: 0 },
    });
    const changes = { validation, training: { max_seq_length: 2 } };
    const refused = await post(request(changes));
    expect(refused.statusCode).toBe(422);
    const { details } = refused.json().error;
    expect(details).toHaveLength(26);
    expect(details[19]).toMatchObject({ code: 'row_too_long', line: 20 });
    expect(details[20]).toMatchObject({ code: 'row_too_long', line: 1, dataset: validation.dataset });
    const missing = await post(request({ validation: { dataset: `ds_${'f'.repeat(24)}` }, base_model: 'no-model' }));
    expect(missing.json().error.details).toMatchObject([
      { code: 'dataset_not_found', param: 'validation.dataset' },
      { code: 'model_not_found' },
    ]);
    expect((await post(request({ validation }))).json()).toMatchObject({ validation: { split: 0, ...validation } });
  });

  test.each([
    ['emoji', '😀'],
    ['accents of their own', 'e\u0301'],
    ['families', '👩\u200d👩'],
    ['flags', '🇪🇺'],
    ['halves of characters', '\ud800'],
    ['halves, the wrong way round', '\ude00\ud83d'],
  ])('counts names and metadata by characters: %s', async (_name, text) => {
    const ofLength = (length: number) => [...text.repeat(length)].slice(0, length).join('');
    const fields = (more: number) => [
      { name: ofLength(128 + more) },
      { metadata: { [ofLength(64 + more)]: 'v' } },
      { metadata: { k: ofLength(512 + more) } },
    ];
    for (const longest of fields(0)) {
      const answer = await post(request(longest));
      expect([answer.statusCode, answer.json()]).toMatchObject([202, longest]);
    }
    for (const tooLong of fields(1)) expect((await post(request(tooLong))).statusCode).toBe(400);
  });

  test('POST /jobs with the same Idempotency-Key returns the same job, or a conflict for another request', async () => {
    const headers = { 'idempotency-key': 'key-1' };
    const first = (await post(request(), { headers })).json();
    // A missing field counts as its default.
    const again = await post(request({ lora: { alpha: 16, r: 8 }, training: { seed: 42 } }), { headers });
    expect([again.statusCode, again.json().id]).toEqual([202, first.id]);
    const other = await post(request({ training: { seed: 43 } }), { headers });
    expect([other.statusCode, other.json().error.code]).toEqual([409, 'idempotency_conflict']);
    expect((await post(request(), { headers: { 'idempotency-key': 'a b' } })).statusCode).toBe(400);
  });

  test('POST /jobs with the same key many times at once creates one job', async () => {
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => post(request({ name: 'race' }), { headers: { 'idempotency-key': 'key-2' } })),
    );
    expect(new Set(answers.map((answer) => answer.json().id)).size).toBe(1);
  });

  test.each([
    ['an unknown model', { base_model: 'no-model' }, 404, 'model_not_found', 'base_model'],
    ['an unknown dataset', { dataset: `ds_${'0'.repeat(24)}` }, 404, 'dataset_not_found', 'dataset'],
    ['an unknown adapter', { lora: { init_from: `ad_${'0'.repeat(24)}` } }, 404, 'adapter_not_found', 'lora.init_from'],
    [
      'a target that matches nothing',
      { lora: { target_modules: ['q_proj', 'qq_proj'] } },
      422,
      'unmatched_target',
      'lora.target_modules.1',
    ],
    ['rank 0', { lora: { r: 0 } }, 400, 'invalid_request', 'lora.r'],
    ['an unknown field', { learning_rate: 1 }, 400, 'unknown_field', 'learning_rate'],
    ['a model that is a path', { base_model: '../tiny-llama' }, 400, 'invalid_request', 'base_model'],
    ['rows too long', { training: { max_seq_length: 4 } }, 422, 'row_too_long', 'training.max_seq_length'],
    ['a metadata key too long', { metadata: { ['k'.repeat(65)]: 'v' } }, 400, 'unknown_field', undefined],
    ['a metadata key of emoji too long', { metadata: { ['😀'.repeat(65)]: 'v' } }, 400, 'unknown_field', undefined],
    ['a rank for a line break', { lora: { rank_pattern: { 'q_proj|\n': 'x' } } }, 400, 'unknown_field', undefined],
  ])('POST /jobs with %s is refused and queues nothing', async (_name, changes, status, code, param) => {
    for (const query of ['', '?dry_run=true']) {
      const before = await count();
      const answer = await post(request(changes), { query });
      expect([answer.statusCode, answer.json().error.code]).toEqual([status, code]);
      if (param !== undefined) expect(answer.json().error.param).toBe(param);
      expect(Value.Check(ErrorBody, answer.json())).toBe(true);
      expect(await count()).toBe(before);
    }
  });

  test('names the existing models or targets if one does not exist', async () => {
    expect((await post(request({ base_model: 'nope' }))).json().error.message).toContain('tiny-llama');
    const targets = (await post(request({ lora: { target_modules: ['nope'] } }))).json().error.message;
    for (const name of ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']) {
      expect(targets).toContain(name);
    }
  });

  test('lists everything that does not exist at once', async () => {
    const { error } = (await post({ base_model: 'nope', dataset: `ds_${'0'.repeat(24)}` })).json();
    expect(error.details.map(({ code }: { code: string }) => code)).toEqual(['dataset_not_found', 'model_not_found']);
  });

  test('lists the line of every row that is too long', async () => {
    const { error } = (await post(request({ training: { max_seq_length: 4 } }))).json();
    expect(error.details).toHaveLength(20);
    expect(error.details[4]).toMatchObject({ code: 'row_too_long', line: 5 });
  });

  test('POST /jobs with features for a language model is refused', async () => {
    const id = (await uploadTo(api, '{"features":[1],"label":0}')).json().id;
    expect((await post(request({ dataset: id }))).json().error.code).toBe('dataset_format_mismatch');
  });
});

describe('a job whose rows take longer than PREFLIGHT_BUDGET_MS', () => {
  test('is checked without its rows, and queued', async () => {
    const hasty = await startRealApi({ redisUrl: server.url, prefix: server.prefix, preflightBudgetMs: 0 });
    try {
      const dataset = (await uploadTo(hasty, promptRows(20))).json().id;
      const ask = (changes: object, query = '') =>
        post({ base_model: 'tiny-llama', dataset, ...changes }, { query, to: hasty });
      // What needs no rows is answered as a dry run answers it.
      const wrong = { lora: { target_modules: ['q_proj', 'qq_proj'] }, training: { eval_every_steps: 2 } };
      const { error } = (await ask(wrong)).json();
      const { error: complete } = (await ask(wrong, '?dry_run=true')).json();
      expect(error.details).toHaveLength(2);
      expect({ ...error, request_id: '' }).toEqual({ ...complete, request_id: '' });

      const tooLong = { training: { max_seq_length: 4 } };
      expect((await ask(tooLong, '?dry_run=true')).json().error.code).toBe('row_too_long');
      const queued = await ask(tooLong);
      expect([queued.statusCode, queued.json().status]).toEqual([202, 'queued']);

      const right = { lora: { target_modules: 'all-linear', rank_pattern: { q_proj: 16 } } };
      const { adapter_bytes } = (await ask(right, '?dry_run=true')).json();
      const job = (await ask(right)).json();
      expect(await hasty.jobs.adapterBytes.of(job.id)).toBe(adapter_bytes);
    } finally {
      await hasty.stop();
    }
  });
});

describe('a slow chat template', () => {
  test('is ended with its thread while other requests are served', async () => {
    const limits = { preflightTimeoutMs: 2_000, preflightBudgetMs: 50 };
    const slow = await startRealApi({ redisUrl: server.url, prefix: server.prefix, ...limits });
    try {
      const file = path.join(slow.folder, 'models/tiny-llama/chat_template.jinja');
      // Within the limits of one rendering, but a thousand rows take minutes.
      const idle = '{% for a in range(600) %}{% for b in range(700) %}{% endfor %}{% endfor %}';
      await writeFile(file, idle + (await readFile(file, 'utf8')));
      const id = (await uploadTo(slow, promptRows(1_000, 'slow'))).json().id;
      const submit = async () => (await post(request({ dataset: id }), { to: slow })).statusCode;
      // A busy machine may need longer to start a thread than the timeout of this api.
      await expect.poll(submit).toBe(202);
      let answer: Awaited<ReturnType<typeof post>> | undefined;
      const answered = post(request({ dataset: id }), { query: '?dry_run=true', to: slow }).then((given) => {
        answer = given;
      });
      // A job does not wait for the planning threads, which are all busy.
      expect(await submit()).toBe(202);
      let served = 0;
      for (; answer === undefined; served++) {
        expect((await slow.app.inject('/live')).statusCode).toBe(200);
        await sleep(50);
      }
      await answered;
      expect([answer.statusCode, answer.json().error.code]).toEqual([504, 'timeout']);
      // In the main thread it would block every call but the first.
      expect(served).toBeGreaterThan(2);
      // The terminated thread is replaced.
      const text = (await uploadTo(slow, '{"text":"a b c"}')).json().id;
      const next = () => post(request({ dataset: text }), { query: '?dry_run=true', to: slow });
      await expect.poll(async () => (await next()).statusCode).toBe(200);
    } finally {
      await slow.stop();
    }
  });
});

describe('jobs', () => {
  test('are listed newest first, by status, page by page', async () => {
    const created: string[] = [];
    for (let i = 0; i < 3; i++) created.push((await post(request({ name: `list ${i}` }))).json().id);
    await api.app.inject({ method: 'POST', url: `/jobs/${created[1]}/cancel` });
    const page = async (query: string) => (await api.app.inject(`/jobs?${query}`)).json();
    const all = await page('limit=3');
    expect(Value.Check(JobPage, all)).toBe(true);
    expect(all.data.map(({ id }: { id: string }) => id)).toEqual([...created].reverse());
    const cancelled = await page('status=cancelled&limit=1');
    expect(cancelled.data[0].id).toBe(created[1]);
    expect((await page(`limit=1&after=${created[2]}`)).data[0].id).toBe(created[1]);
    expect((await page('status=lost')).error).toMatchObject({ code: 'invalid_request', param: 'status' });
    expect((await page('after=x')).error).toMatchObject({ code: 'invalid_request', param: 'after' });
  });

  test('jobs that wait are cancelled at once, but only once', async () => {
    const { id } = (await post(request())).json();
    const cancel = () => api.app.inject({ method: 'POST', url: `/jobs/${id}/cancel` });
    const first = await cancel();
    expect([first.statusCode, first.json().status]).toEqual([200, 'cancelled']);
    const second = await cancel();
    expect([second.statusCode, second.json().error.code]).toEqual([409, 'job_not_cancellable']);
  });

  test('jobs that run are cancelled by their worker', async () => {
    const { id } = (await post(request())).json();
    const start = await api.jobs.attempts.start(id, 'worker');
    expect(start.outcome).toBe('started');
    const answer = await api.app.inject({ method: 'POST', url: `/jobs/${id}/cancel` });
    expect([answer.statusCode, answer.json().status]).toEqual([202, 'preparing']);
  });

  test('are deleted once they have ended', async () => {
    const { id } = (await post(request())).json();
    const remove = () => api.app.inject({ method: 'DELETE', url: `/jobs/${id}` });
    const active = await remove();
    expect([active.statusCode, active.json().error.code]).toEqual([409, 'job_still_active']);
    await api.app.inject({ method: 'POST', url: `/jobs/${id}/cancel` });
    expect((await remove()).statusCode).toBe(204);
    expect((await remove()).json().error.code).toBe('job_not_found');
  });

  // `..` is no job either: a client's URL parser makes `/` of it, which is the page.
  test.each(['job_000000000000000000000000', 'job_1:events', '%2e%2e%2f', 'all', '*'])(
    '%s is not found',
    async (id) => {
      for (const [method, url] of [
        ['GET', ''],
        ['DELETE', ''],
        ['POST', '/cancel'],
        ['GET', '/events'],
      ] as const) {
        const answer = await api.app.inject({ method, url: `/jobs/${id}${url}` });
        expect(answer.statusCode).toBe(404);
      }
    },
  );
});

describe('while Redis is unavailable', () => {
  test('calls that need it are 503, but datasets and models still work', async () => {
    const away = await startRealApi({ redisUrl: await absentRedisUrl() });
    try {
      const id = (await uploadTo(away, promptRows(3))).json().id;
      expect((await away.app.inject('/datasets')).json().data).toHaveLength(1);
      expect((await away.app.inject('/models/tiny-llama')).statusCode).toBe(200);
      expect(
        (await post({ base_model: 'tiny-llama', dataset: id }, { query: '?dry_run=true', to: away })).statusCode,
      ).toBe(200);
      const job = 'job_000000000000000000000000';
      const answers = [
        await post({ base_model: 'tiny-llama', dataset: id }, { to: away }),
        await away.app.inject('/jobs'),
        await away.app.inject(`/jobs/${job}`),
        await away.app.inject(`/jobs/${job}/events`),
        await away.app.inject({ method: 'POST', url: `/jobs/${job}/cancel` }),
        await away.app.inject({ method: 'DELETE', url: `/datasets/${id}` }),
      ];
      for (const answer of answers) {
        expect([answer.statusCode, answer.json().error.code]).toEqual([503, 'redis_unavailable']);
        expect(answer.headers['retry-after']).toBe('2');
      }
      const ready = await away.app.inject('/ready');
      expect([ready.statusCode, ready.json().error.details[0].param]).toEqual([503, 'redis']);
      expect((await away.app.inject('/live')).statusCode).toBe(200);
      expect((await away.app.inject(`/datasets/${id}`)).statusCode).toBe(200);
    } finally {
      await away.stop();
    }
  });
});
