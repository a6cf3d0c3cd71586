import type { ChildProcess } from 'node:child_process';
import {
  type AdapterId,
  type JobId,
  newIdentifier,
  Sweep,
  type SweepEvent,
  SweepEventList,
  SweepPage,
  SweepPlan,
  specOf,
} from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/queue';
import { createLogger } from '@lorasmith/service-kit';
import { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { createRegistryClient, type RegistryAddress } from '../src/adapters/registry-client.js';
import { advanceSweep, startSweeps } from '../src/sweeps/advance-sweeps.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

let server: RealRedis;
let api: RealApi;
let registry: ChildProcess;
let address: RegistryAddress;
let dataset: string;

beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
  const started = await startRegistry(api.folder);
  registry = started.process;
  address = started.address;
  dataset = await uploadTo(api);
});
afterAll(async () => {
  registry?.kill('SIGKILL');
  await api?.stop();
  await server?.stop();
});

async function uploadTo(target: RealApi, headers: Record<string, string> = {}): Promise<string> {
  const answer = await target.app.inject({
    method: 'POST',
    url: '/datasets',
    payload: promptRows(20),
    headers: { 'content-type': 'text/plain', ...headers },
  });
  return answer.json().id;
}

type Calls = { query?: string; headers?: Record<string, string>; to?: RealApi };

function post(body: object, { query = '', headers = {}, to = api }: Calls = {}) {
  return to.app.inject({ method: 'POST', url: `/sweeps${query}`, payload: body, headers });
}

const RANKS = { 'lora.r': { values: [2, 4, 8] } };
const sweep = (changes: { job?: object; [field: string]: unknown } = {}) => ({
  space: RANKS,
  ...changes,
  job: { base_model: 'tiny-llama', dataset, validation: { split: 0.25 }, ...changes.job },
});
const call = async (id: string, method: 'GET' | 'POST' | 'DELETE' = 'GET', path = '') =>
  await api.app.inject({ method, url: `/sweeps/${id}${path}` });
const count = async () => (await api.jobs.listJobs({ limit: 100 })).data.length;
const options = () => ({
  jobs: api.jobs,
  adapters: api.adapters,
  aliases: api.aliases,
  registry: createRegistryClient(address),
});
const eventsOf = async (id: string) => (await api.jobs.sweeps.readEvents(id)).data;
const statusesOf = (answer: Sweep) => answer.variants.map(({ status }) => status);

describe('POST /sweeps', () => {
  test('queues a job for each variant', async () => {
    const space = { ...RANKS, 'training.learning_rate': { range: { from: 1e-3, to: 1e-1, scale: 'log', count: 3 } } };
    const answer = await post(sweep({ name: 'mine', space, job: { name: 'tone' } }));
    expect(answer.statusCode).toBe(202);
    const created = answer.json<Sweep>();
    expect(Value.Check(Sweep, created)).toBe(true);
    expect(answer.headers.location).toBe(`/sweeps/${created.id}`);
    expect(created).toMatchObject({ status: 'running', name: 'mine', metric: 'loss', direction: 'min', best: null });
    expect(created.variants).toHaveLength(9);
    expect(created.variants[4]).toMatchObject({
      variant: 5,
      values: { 'lora.r': 4, 'training.learning_rate': 0.01 },
      status: 'queued',
      metric: null,
      rank: null,
    });
    expect((await call(created.id)).json()).toEqual(created);
    const job = (await api.app.inject(`/jobs/${created.variants[4]!.job}`)).json();
    expect(job).toMatchObject({
      name: 'tone #5',
      sweep: { id: created.id, variant: 5 },
      lora: { r: 4, alpha: 16 },
      training: { learning_rate: 0.01, seed: 42 },
      validation: { split: 0.25 },
    });
  });

  test('with dry_run plans every variant, says which cannot run and why, and queues nothing', async () => {
    const before = await count();
    const space = { ...RANKS, 'lora.target_modules': { values: ['all-linear', ['nope']] } };
    const answer = await post(sweep({ space }), { query: '?dry_run=true' });
    expect(answer.statusCode).toBe(200);
    const plan = answer.json<SweepPlan>();
    expect(Value.Check(SweepPlan, plan)).toBe(true);
    expect(plan.jobs).toBe(3);
    expect(plan.variants.map(({ steps, error }) => [steps, error?.code])).toEqual([
      [6, undefined],
      [null, 'unmatched_target'],
      [6, undefined],
      [null, 'unmatched_target'],
      [6, undefined],
      [null, 'unmatched_target'],
    ]);
    expect(plan.tokens).toBe(3 * plan.variants[0]!.tokens!);
    // No worker has measured its machine.
    expect(plan).toMatchObject({ seconds: null, at_once: null, peak_memory_bytes: null });
    expect(await count()).toBe(before);
  });

  test('is repeated with an Idempotency-Key', async () => {
    const headers = { 'idempotency-key': 'k' };
    const [one, other] = await Promise.all([post(sweep(), { headers }), post(sweep(), { headers })]);
    expect(other.json().id).toBe(one.json().id);
    // A missing field counts as its default.
    const again = await post(sweep({ job: { lora: { alpha: 16 } } }), { headers });
    expect(again.json().id).toBe(one.json().id);
    const conflict = await post(sweep({ metric: 'accuracy' }), { headers });
    expect([conflict.statusCode, conflict.json().error.code]).toEqual([409, 'idempotency_conflict']);
  });

  test.each<[string, { job?: object; [field: string]: unknown }, number, string, string]>([
    ['an empty space', { space: {} }, 400, 'invalid_request', 'space'],
    ['no values', { space: { 'lora.r': { values: [] } } }, 400, 'invalid_request', 'space.lora.r.values'],
    ['an unknown search', { search: 'bayes' }, 400, 'invalid_request', 'search'],
    ['an unknown field', { halve: true }, 400, 'unknown_field', 'halve'],
    ['a wrong template', { job: { lora: { r: 0 } } }, 400, 'invalid_request', 'job.lora.r'],
    ['a field that is none', { space: { 'lora.rank': { values: [1] } } }, 422, 'invalid_sweep', 'space.lora.rank'],
    [
      '65 variants',
      { space: { 'lora.r': { range: { from: 1, to: 13, count: 13 } }, 'lora.alpha': { values: [1, 2, 3, 4, 5] } } },
      422,
      'invalid_sweep',
      'space',
    ],
    ['a metric without held-out rows', { job: { validation: { split: 0 } } }, 422, 'invalid_sweep', 'metric'],
    ['a reward without a grader', { metric: 'reward' }, 422, 'invalid_sweep', 'metric'],
    [
      'a dataset that there is not',
      { job: { dataset: `ds_${'0'.repeat(24)}` } },
      404,
      'dataset_not_found',
      'job.dataset',
    ],
    [
      'a template with init_from of a deleted adapter',
      { job: { lora: { init_from: `ad_${'0'.repeat(24)}` } } },
      404,
      'adapter_not_found',
      'job.lora.init_from',
    ],
    [
      'a fault of every variant',
      { job: { lora: { target_modules: ['nope'] } } },
      422,
      'unmatched_target',
      'job.lora.target_modules.0',
    ],
  ])('refuses %s', async (_name, changes, status, code, param) => {
    const before = await count();
    const refused = await post(sweep(changes));
    expect([refused.statusCode, refused.json().error]).toMatchObject([status, { code, param }]);
    const planned = await post(sweep(changes), { query: '?dry_run=true' });
    expect([planned.statusCode, planned.json().error.code]).toEqual([status, code]);
    expect(await count()).toBe(before);
  });

  test('queues nothing if a variant cannot run, and says which and why', async () => {
    const before = await count();
    const space = { 'lora.r': { values: [2, 4] }, 'lora.target_modules': { values: ['all-linear', ['nope']] } };
    const { error } = (await post(sweep({ space }))).json();
    expect(error).toMatchObject({ code: 'invalid_sweep', param: 'space' });
    expect(error.message).toContain('2 of the 4 variants cannot run');
    expect(error.details).toHaveLength(2);
    expect(error.details[1]).toMatchObject({ code: 'unmatched_target' });
    expect(error.details[1].message).toContain('lora.r 4, lora.target_modules ["nope"]: ');
    expect(await count()).toBe(before);
    const exclude = [{ 'lora.target_modules': { values: [['nope']] } }];
    expect((await post(sweep({ space, exclude }))).statusCode).toBe(202);
  });
});

describe('a sweep of jobs', () => {
  test('is paused, resumed and cancelled as one job is', async () => {
    const { id, variants } = (await post(sweep())).json<Sweep>();
    await api.jobs.requestCancel(variants[0]!.job);
    const paused = await call(id, 'POST', '/pause');
    expect([paused.statusCode, paused.json().status, statusesOf(paused.json())]).toEqual([
      202,
      'paused',
      ['cancelled', 'paused', 'paused'],
    ]);
    // A variant that the user has cancelled stays so.
    const resumed = await call(id, 'POST', '/resume');
    expect([resumed.json().status, statusesOf(resumed.json())]).toEqual(['running', ['cancelled', 'queued', 'queued']]);
    const active = await call(id, 'DELETE');
    expect([active.statusCode, active.json().error.code]).toEqual([409, 'sweep_still_active']);
    const cancelled = await call(id, 'POST', '/cancel');
    expect(cancelled.json()).toMatchObject({ status: 'cancelled', best: null, ended_at: expect.any(String) });
    expect(statusesOf(cancelled.json())).toEqual(['cancelled', 'cancelled', 'cancelled']);
    const late = await call(id, 'POST', '/resume');
    expect([late.statusCode, late.json().error.code]).toEqual([409, 'sweep_ended']);
    expect((await call(id, 'DELETE')).statusCode).toBe(204);
    expect((await call(id)).json().error.code).toBe('sweep_not_found');
    expect((await api.app.inject(`/jobs/${variants[0]!.job}`)).statusCode).toBe(200);
  });

  test('a process that dies after it has recorded a cancel is continued by another', async () => {
    const { id } = (await post(sweep())).json<Sweep>();
    await api.jobs.sweeps.want(id, 'cancel');
    expect((await call(id)).json().status).toBe('running');
    const stop = startSweeps({ ...options(), log: createLogger({ service: 'api', level: 'silent' }), pollMs: 1 });
    await expect.poll(async () => (await call(id)).json().status).toBe('cancelled');
    await stop();
  });

  test('a resume that a cancel has overtaken revives no job', async () => {
    const { id } = (await post(sweep())).json<Sweep>();
    await call(id, 'POST', '/pause');
    await api.jobs.sweeps.want(id, 'run');
    let isFirst = true;
    const slow: typeof api.jobs.resumeJob = async (...asked) => {
      if (isFirst) await call(id, 'POST', '/cancel');
      isFirst = false;
      return await api.jobs.resumeJob(...asked);
    };
    await advanceSweep({ ...options(), jobs: { ...api.jobs, resumeJob: slow } }, id);
    const cancelled = (await call(id)).json<Sweep>();
    expect([cancelled.status, ...statusesOf(cancelled)]).toEqual([...Array(4).fill('cancelled')]);
  });

  test('a process that has read a sweep before its cancel records it as cancelled', async () => {
    const { id } = (await post(sweep())).json<Sweep>();
    await api.jobs.sweeps.settle(id, 'run');
    const { jobs } = api.jobs.sweeps;
    const sweeps = {
      ...api.jobs.sweeps,
      jobs: async (ids: JobId[]) => {
        await api.jobs.sweeps.want(id, 'cancel');
        for (const job of ids) await api.jobs.requestCancel(job).catch(() => {});
        return await jobs(ids);
      },
    };
    await advanceSweep({ ...options(), jobs: { ...api.jobs, sweeps } }, id);
    expect((await call(id)).json()).toMatchObject({ status: 'cancelled' });
  });

  test('are listed newest first', async () => {
    const [first, second] = [(await post(sweep())).json<Sweep>(), (await post(sweep())).json<Sweep>()];
    const page = async (query: string) => (await api.app.inject(`/sweeps?${query}`)).json();
    const newest = await page('limit=2');
    expect(Value.Check(SweepPage, newest)).toBe(true);
    expect(newest.data).toEqual([second, first]);
    expect((await page(`limit=1&after=${second.id}`)).data).toEqual([first]);
    expect((await page('after=x')).error).toMatchObject({ code: 'invalid_request', param: 'after' });
    expect((await page(`after=${newIdentifier('sw')}`)).error).toMatchObject({ param: 'after' });
  });
});

async function begin(job: JobId): Promise<JobAttempt> {
  const start = await api.jobs.attempts.start(job, 'worker');
  if (start.outcome !== 'started') throw new Error(start.reason);
  return start.attempt;
}

const NO_NUMBER = { code: 'non_finite_loss', message: 'NaN', details: [] };
const evaluated = (loss: number) => ({ loss, perplexity: null, accuracy: 1 - loss, tokens: 1, trained_tokens: 1 });

/** Does what a worker does with a job that trains and ends with this loss on the held-out rows. */
async function succeed(job: JobId, loss: number): Promise<AdapterId> {
  const adapter = job.replace('job_', 'ad_');
  const attempt = await begin(job);
  await publishReferenceAdapter(api.adapters, { id: adapter, name: 'llama-tied' });
  await api.jobs.attempts.succeed(attempt, adapter, 6, evaluated(loss));
  return adapter;
}

describe('a sweep whose jobs have all ended', () => {
  test('keeps an adapter to which a name points', async () => {
    const { id, variants } = (await post(sweep({ space: { 'lora.r': { values: [1, 2] } } }))).json<Sweep>();
    const named = await succeed(variants[0]!.job, 0.5);
    const move = { base_model: 'llama-tied', moved_by: null, reason: null, rolled_back_to: null, guard: null };
    await api.aliases.move({ owner: null, name: 'loser' }, { adapter: named, ...move, ifVersion: undefined });
    const best = await succeed(variants[1]!.job, 0.25);
    await advanceSweep(options(), id);
    expect((await call(id)).json<Sweep>().best).toBe(variants[1]!.job);
    expect(await Promise.all([named, best].map((adapter) => api.adapters.has(adapter)))).toEqual([true, true]);
  });

  test('has the best first, keeps the adapters of the best and deletes the others', async () => {
    const space = { 'lora.r': { values: [1, 2, 3, 4, 5] } };
    const { id, variants } = (await post(sweep({ space, publish_best: 2 }))).json<Sweep>();
    const jobs = variants.map(({ job }) => job);
    const losses = [0.5, 0.3, 0.7, 0.2];
    const adapters: AdapterId[] = [];
    for (const [index, loss] of losses.entries()) {
      // Nothing is decided before all have ended.
      await advanceSweep(options(), id);
      adapters.push(await succeed(jobs[index]!, loss));
    }
    // One that fails is a result, too.
    const attempt = await begin(jobs[4]!);
    await api.jobs.attempts.fail(attempt, NO_NUMBER);
    // A job that begins from an adapter meanwhile keeps it.
    const user = await api.jobs.createJob(
      { ...specOf(attempt.job), lora: { ...attempt.job.lora, init_from: adapters[2]! } },
      { requestHash: 'h' },
    );

    const away = { ...options(), registry: createRegistryClient({ ...address, url: 'http://127.0.0.1:9' }) };
    await expect(advanceSweep(away, id)).rejects.toMatchObject({ code: 'registry_unavailable' });
    // It is decided, and another process deletes what is left: however often they do.
    await Promise.all([advanceSweep(options(), id), advanceSweep(options(), id)]);
    await advanceSweep(options(), id);
    const ended = (await call(id)).json<Sweep>();
    expect(Value.Check(Sweep, ended)).toBe(true);
    expect(ended).toMatchObject({ status: 'succeeded', best: jobs[3] });
    expect(ended.variants.map(({ rank, metric, adapter, error }) => [rank, metric, adapter, error])).toEqual([
      [3, 0.5, null, null],
      [2, 0.3, adapters[1], null],
      [4, 0.7, null, null],
      [1, 0.2, adapters[3], null],
      [null, null, null, NO_NUMBER],
    ]);
    const stored = await Promise.all(adapters.map((adapter) => api.adapters.has(adapter)));
    expect(stored).toEqual([false, true, true, true]);
    expect(await api.jobs.sweeps.active()).not.toContain(id);
    // Each end was reported once, and the last event says which is the best.
    const json = { accept: 'application/json' };
    const listed = await api.app.inject({ url: `/sweeps/${id}/events`, headers: json });
    expect([...Value.Errors(SweepEventList, listed.json())]).toEqual([]);
    const events = listed.json<{ data: SweepEvent[] }>().data;
    const ends = events.flatMap(({ type, data }) => (type === 'variant-ended' ? [data] : []));
    expect(ends.map(({ variant, status, metric }) => [variant, status, metric])).toEqual([
      [1, 'succeeded', 0.5],
      [2, 'succeeded', 0.3],
      [3, 'succeeded', 0.7],
      [4, 'succeeded', 0.2],
      [5, 'failed', null],
    ]);
    const last = { best: jobs[3], adapter: adapters[3], metric: 0.2 };
    expect(events.slice(6)).toMatchObject([{ type: 'sweep-succeeded', data: last }]);
    const after = { 'last-event-id': events[5]!.id };
    const stream = await api.app.inject({ url: `/sweeps/${id}/events`, headers: after });
    expect(stream.headers['content-type']).toContain('text/event-stream');
    expect(stream.body).toContain(`id: ${events[6]!.id}\nevent: sweep-succeeded\ndata: `);
    expect(stream.body).not.toContain('variant-ended');
    const over = { 'last-event-id': events[6]!.id };
    expect((await api.app.inject({ url: `/sweeps/${id}/events`, headers: over })).statusCode).toBe(204);
    // What was decided stays, whatever becomes of the jobs.
    await api.jobs.requestCancel(user.job.id);
    await api.jobs.deleteJob(jobs[3]!);
    const later = (await call(id)).json<Sweep>();
    expect(later.best).toBe(jobs[3]);
    expect(later.variants[3]).toMatchObject({ status: null, metric: 0.2, rank: 1, adapter: null });
  });

  test('can be deleted at once: what is left of its losers goes first', async () => {
    const { id, variants } = (await post(sweep({ space: { 'lora.r': { values: [1, 2] } } }))).json<Sweep>();
    const adapters: AdapterId[] = [];
    for (const [index, { job }] of variants.entries()) adapters.push(await succeed(job, 0.5 + index));
    const away = { ...options(), registry: createRegistryClient({ ...address, url: 'http://127.0.0.1:9' }) };
    await expect(advanceSweep(away, id)).rejects.toMatchObject({ code: 'registry_unavailable' });
    expect((await call(id)).json()).toMatchObject({ status: 'succeeded' });
    // This api has no registry, the other one has.
    const refused = await call(id, 'DELETE');
    expect([refused.statusCode, refused.json().error.code]).toEqual([503, 'registry_unavailable']);
    const changes = { registry: address, adapters: api.adapters };
    const other = await startRealApi({ redisUrl: server.url, prefix: server.prefix, changes });
    const deleted = await other.app.inject({ method: 'DELETE', url: `/sweeps/${id}` });
    await other.stop();
    expect(deleted.statusCode).toBe(204);
    expect(await Promise.all(adapters.map((adapter) => api.adapters.has(adapter)))).toEqual([true, false]);
    expect((await call(id)).statusCode).toBe(404);
    expect(await api.jobs.sweeps.active()).not.toContain(id);
  });

  test('deletes an adapter whose loss is no number, and not that of a variant which is resumed later', async () => {
    const { id, variants } = (await post(sweep())).json<Sweep>();
    const [first, second, third] = variants.map(({ job }) => job) as [JobId, JobId, JobId];
    const adapters = [await succeed(first, Number.NaN), await succeed(second, 0.5)];
    await api.jobs.attempts.fail(await begin(third), NO_NUMBER);
    await advanceSweep(options(), id);
    await api.jobs.resumeJob(third);
    adapters.push(await succeed(third, 0.4));
    await advanceSweep(options(), id);
    const ended = (await call(id)).json<Sweep>();
    expect(ended.variants.map(({ rank, adapter }) => [rank, adapter])).toEqual([
      [null, null],
      [1, adapters[1]],
      [null, adapters[2]],
    ]);
    const stored = await Promise.all(adapters.map((adapter) => api.adapters.has(adapter)));
    expect(stored).toEqual([false, true, true]);
  });

  test('compares by another metric', async () => {
    const { id, variants } = (await post(sweep({ metric: 'accuracy', publish_best: 64 }))).json<Sweep>();
    for (const [index, loss] of [0.4, 0.6, 0.5].entries()) await succeed(variants[index]!.job, loss);
    await advanceSweep(options(), id);
    const ended = (await call(id)).json<Sweep>();
    expect(ended.variants.map(({ rank, metric }) => [rank, metric])).toEqual([
      [1, 0.6],
      [3, 0.4],
      [2, 0.5],
    ]);
    expect(ended.variants.every(({ adapter }) => adapter !== null)).toBe(true);
  });

  test('fails if no variant has a result', async () => {
    const { id, variants } = (await post(sweep())).json<Sweep>();
    for (const { job } of variants) await api.jobs.requestCancel(job);
    await advanceSweep(options(), id);
    expect((await call(id)).json()).toMatchObject({ status: 'failed', best: null });
  });
});

/** Does what a worker does with a job that comes to the step at which it is held. @returns that step */
async function hold(job: JobId, loss: number): Promise<number | null> {
  const attempt = await begin(job);
  const step = attempt.rungStep;
  const held = { step: step ?? 0, evaluation: evaluated(loss) };
  expect(await api.jobs.attempts.release(attempt, { atRung: held })).toBe(step === null ? 'done' : 'paused');
  return step;
}

describe('halving', () => {
  const space = { 'lora.r': { values: [1, 2, 3, 4, 5] } };
  const halved = async () => (await post(sweep({ space, halving: { first_steps: 1 } }))).json<Sweep>();
  const stateOf = async (id: string) => (await call(id)).json<Sweep>();

  test('a dry run counts the tokens that halving saves', async () => {
    const planOf = async (changes: object) =>
      (await post(sweep({ space, ...changes }), { query: '?dry_run=true' })).json<SweepPlan>();
    const [all, half] = [await planOf({}), await planOf({ halving: { first_steps: 1 } })];
    // 5 to step 1, 3 to 2, 2 to 4, one to 6.
    expect(half.tokens / all.tokens).toBeCloseTo((5 + 3 + 2 * 2 + 2) / 30, 2);
  });

  test('lets the better half go on at each rung, until one trains to its end', async () => {
    const { id, variants } = await halved();
    const jobs = variants.map(({ job }) => job);
    for (const [index, loss] of [0.5, 0.3, 0.1, 0.4].entries()) {
      expect(await hold(jobs[index]!, loss)).toBe(1);
      await advanceSweep(options(), id);
    }
    // The last has not come yet.
    expect((await stateOf(id)).rungs).toEqual([]);
    await hold(jobs[4]!, 0.2);
    // Several processes decide the same.
    await Promise.all([advanceSweep(options(), id), advanceSweep(options(), id)]);
    const first = await stateOf(id);
    const decisions = (await eventsOf(id)).filter(({ type }) => type === 'rung-decided');
    expect(decisions.map(({ data }) => data)).toEqual([{ rung: first.rungs[0] }]);
    expect(Value.Check(Sweep, first)).toBe(true);
    expect(first.rungs).toMatchObject([{ step: 1, kept: [2, 3, 5], stopped: [1, 4] }]);
    expect(statusesOf(first)).toEqual(['cancelled', 'queued', 'queued', 'cancelled', 'queued']);
    expect(first.variants[0]).toMatchObject({ metric: 0.5, step: 1, rank: null, stopped_at_rung: 1 });
    expect((await api.jobs.getJob(jobs[3]!))?.stopped_at_rung).toBe(1);
    await advanceSweep(options(), id);
    expect(await stateOf(id)).toEqual(first);

    // One fails: the better half of three are the two others.
    await api.jobs.attempts.fail(await begin(jobs[2]!), NO_NUMBER);
    expect(await hold(jobs[1]!, 0.25)).toBe(2);
    expect(await hold(jobs[4]!, 0.15)).toBe(2);
    await advanceSweep(options(), id);
    expect((await stateOf(id)).rungs[1]).toMatchObject({ step: 2, kept: [2, 5], stopped: [3] });
    expect(await hold(jobs[1]!, 0.05)).toBe(4);
    expect(await hold(jobs[4]!, 0.12)).toBe(4);
    await advanceSweep(options(), id);
    // Alone, it is not held any more.
    const adapter = await succeed(jobs[1]!, 0.04);
    await advanceSweep(options(), id);
    const ended = await stateOf(id);
    expect(ended).toMatchObject({ status: 'succeeded', best: jobs[1] });
    expect(ended.rungs.map(({ kept }) => kept)).toEqual([[2, 3, 5], [2, 5], [2]]);
    expect(ended.variants[1]).toMatchObject({ rank: 1, metric: 0.04, adapter });
    expect(statusesOf(ended)).toEqual(['cancelled', 'succeeded', 'failed', 'cancelled', 'cancelled']);
    expect(ended.variants.map((one) => one.stopped_at_rung)).toEqual([1, undefined, undefined, 1, 4]);
    // A variant that was stopped can be trained to its end.
    await api.jobs.resumeJob(jobs[3]!);
    expect(await hold(jobs[3]!, 0.3)).toBeNull();
    await api.jobs.requestCancel(jobs[3]!);
  });

  test('decides nothing and lets none go on while the sweep is paused, and continues a decision of a process that died', async () => {
    const { id, variants } = await halved();
    const jobs = variants.map(({ job }) => job);
    for (const [index, job] of jobs.slice(0, 4).entries()) await hold(job, index / 10);
    await call(id, 'POST', '/pause');
    expect(statusesOf(await stateOf(id))).toEqual(Array(5).fill('paused'));
    // A resume of one job does not let it pass the rung.
    await api.jobs.resumeJob(jobs[0]!);
    expect(await hold(jobs[0]!, 0)).toBe(1);
    const resumed = (await call(id, 'POST', '/resume')).json<Sweep>();
    expect(statusesOf(resumed)).toEqual(['paused', 'paused', 'paused', 'paused', 'queued']);
    await hold(jobs[4]!, 0.9);
    const decision = { step: 1, kept: [0, 1, 2], metrics: {}, decided_at: 'then' };
    const rung = { step: 1, kept: [1, 2, 3], stopped: [4, 5], decided_at: 'then' };
    await api.jobs.sweeps.decide(id, 0, decision, { type: 'rung-decided', data: { rung } });
    await api.jobs.sweeps.continueFromRung(id, jobs[0]!, 1, 2);
    await advanceSweep(options(), id);
    const after = await stateOf(id);
    expect(after.rungs).toEqual([{ step: 1, kept: [1, 2, 3], stopped: [4, 5], decided_at: 'then' }]);
    expect(statusesOf(after)).toEqual(['queued', 'queued', 'queued', 'cancelled', 'cancelled']);
    expect((await api.jobs.getJob(jobs[0]!))?.resumes).toBe(2);
    await call(id, 'POST', '/cancel');
    await hold(jobs[0]!, 0).catch(() => {});
    expect((await stateOf(id)).status).toBe('cancelled');
  });
});

test('64 variants are checked at once, each against what all have in common', async () => {
  const space = { 'lora.r': { range: { from: 1, to: 16, count: 16 } }, 'lora.alpha': { values: [1, 2, 4, 8] } };
  const created = (await post(sweep({ space }))).json<Sweep>();
  expect(created.variants).toHaveLength(64);
  const records = await Promise.all(created.variants.map(({ job }) => api.jobs.getJob(job)));
  expect(records.map((job) => [job!.lora.r, job!.lora.alpha])).toEqual(
    created.variants.map(({ values }) => [values['lora.r'], values['lora.alpha']]),
  );
  // Each was planned completely: the queue knows its tokens.
  const { waiting } = await api.jobs.queue.snapshot();
  const own = waiting.filter(({ id }) => created.variants.some(({ job }) => job === id));
  expect(own.map(({ entry }) => (entry?.tokens ?? 0) > 0)).toEqual(Array(64).fill(true));
  await call(created.id, 'POST', '/cancel');
});

test('a sweep has a webhook of its own, which is checked as that of a job', async () => {
  const config = { url: null, secret: `whsec_${Buffer.alloc(32, 7).toString('base64')}`, allowPrivate: false };
  const prefix = `${server.prefix}webhooks:`;
  const hooked = await startRealApi({ redisUrl: server.url, prefix, changes: { webhooks: config } });
  try {
    const job = { dataset: await uploadTo(hooked) };
    const webhook = { url: 'https://example.com/sweep' };
    const refused = await post(sweep({ job, webhook: { url: 'https://10.0.0.1/' } }), { to: hooked });
    expect(refused.json().error).toMatchObject({ code: 'invalid_job', param: 'webhook.url' });
    const template = await post(sweep({ job: { ...job, webhook: { url: 'https://10.0.0.1/' } } }), { to: hooked });
    expect(template.json().error).toMatchObject({ code: 'invalid_job', param: 'job.webhook.url' });
    const { id } = (await post(sweep({ job, webhook }), { to: hooked })).json<Sweep>();
    await hooked.app.inject({ method: 'POST', url: `/sweeps/${id}/cancel` });
    expect(await hooked.jobs.webhooks.claim(60_000)).toMatchObject({
      url: webhook.url,
      owner: null,
      body: { type: 'sweep.cancelled', data: { id, object: 'sweep', status: 'cancelled', best: null } },
    });
    expect(await hooked.jobs.webhooks.claim(60_000)).toBeNull();
  } finally {
    await hooked.stop();
  }
  const without = await post(sweep({ webhook: { url: 'https://example.com/sweep' } }));
  expect(without.json().error).toMatchObject({ code: 'invalid_job', param: 'webhook' });
});

test('a key sees its own sweeps, and its limit of jobs counts all variants', async () => {
  const redis = new Redis(server.url);
  const prefix = `${server.prefix}keys:`;
  const keys = new KeyStore({ redis, prefix });
  const limits = { ...OPEN_ACCESS.limits, activeJobs: 4 };
  const access = createAccess({ redis, prefix, keys, withoutKeys: 'loopback', limits, uploadTimeoutMs: 60_000 });
  const guarded = await startRealApi({ redisUrl: server.url, prefix, changes: { access } });
  try {
    const holder = async (role: 'train' | 'read') => {
      const { token } = await keys.create({ name: 'a name', role });
      return { authorization: `Bearer ${token}` };
    };
    const [one, other, reader] = [await holder('train'), await holder('train'), await holder('read')];
    const job = { dataset: await uploadTo(guarded, one) };
    const created = await post(sweep({ job }), { headers: one, to: guarded });
    expect(created.statusCode).toBe(202);
    const full = await post(sweep({ job, space: { 'lora.r': { values: [1, 2] } } }), { headers: one, to: guarded });
    expect([full.statusCode, full.json().error.code]).toEqual([429, 'quota_exceeded']);
    const get = async (headers: Record<string, string>, method: 'GET' | 'POST' = 'GET', path = '') =>
      await guarded.app.inject({ method, url: `/sweeps/${created.json().id}${path}`, headers });
    expect((await get(one)).statusCode).toBe(200);
    for (const stranger of [other, reader]) expect((await get(stranger)).json().error.code).toBe('sweep_not_found');
    expect((await get(other, 'POST', '/cancel')).json().error.code).toBe('sweep_not_found');
    expect((await get(reader, 'POST', '/cancel')).statusCode).toBe(403);
    expect((await guarded.app.inject({ url: '/sweeps', headers: other })).json().data).toEqual([]);
    expect((await guarded.app.inject({ url: '/sweeps', headers: one })).json().data).toHaveLength(1);
    expect((await post(sweep({ job }), { headers: other, to: guarded })).json().error.code).toBe('dataset_not_found');
  } finally {
    await guarded.stop();
    await redis.quit();
  }
});
