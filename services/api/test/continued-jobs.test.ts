import { type Checkpoint, CheckpointList, ErrorBody, Job, type JobId } from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/queue';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

let server: RealRedis;
let api: RealApi;
let dataset: string;
let job: JobId;

beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});
beforeEach(async () => {
  const headers = { 'content-type': 'text/plain' };
  dataset = (await api.app.inject({ method: 'POST', url: '/datasets', payload: promptRows(8), headers })).json().id;
  job = (await post('/jobs', { base_model: 'tiny-llama', dataset, name: 'mine' })).json().id;
});

const post = (url: string, payload?: object, headers: Record<string, string> = {}) =>
  api.app.inject({ method: 'POST', url, headers, ...(payload === undefined ? {} : { payload }) });
const codeOf = (answer: { json(): { error: { code: string } } }) => {
  expect(Value.Check(ErrorBody, answer.json())).toBe(true);
  return answer.json().error.code;
};

async function attemptOf(id: JobId): Promise<JobAttempt> {
  const start = await api.jobs.attempts.start(id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(start.reason);
  return start.attempt;
}

const checkpointAt = (step: number, marks: Partial<Checkpoint> = {}): Checkpoint => ({
  object: 'checkpoint',
  job,
  step,
  epoch: step / 10,
  train_loss: 2,
  eval_loss: null,
  is_best: false,
  is_last: false,
  bytes: 1000,
  created_at: '2026-01-01T00:00:00.000Z',
  ...marks,
});

/** A failed job with two stored checkpoints. */
async function failWithCheckpoints(): Promise<Checkpoint[]> {
  const attempt = await attemptOf(job);
  const kept = [checkpointAt(20, { is_last: true }), checkpointAt(10, { is_best: true, eval_loss: 1.5 })];
  await api.jobs.attempts.record(attempt, { type: 'checkpoint-saved', data: { step: 20 } }, kept);
  await api.jobs.attempts.fail(attempt, { code: 'trainer_crashed', message: 'It went away.', details: [] });
  return kept;
}

describe('POST /jobs/:id/resume', () => {
  test('queues a cancelled job again with the same id', async () => {
    await post(`/jobs/${job}/cancel`);
    const answer = await post(`/jobs/${job}/resume`);
    expect(answer.statusCode).toBe(202);
    expect(Value.Check(Job, answer.json())).toBe(true);
    expect(answer.json()).toMatchObject({ id: job, status: 'queued', resumes: 1 });
  });

  test('refuses a waiting job and one that does not exist', async () => {
    const waiting = await post(`/jobs/${job}/resume`);
    expect([waiting.statusCode, codeOf(waiting)]).toEqual([409, 'job_not_resumable']);
    expect(codeOf(await post('/jobs/job_ffffffffffffffffffffffff/resume'))).toBe('job_not_found');
    expect(codeOf(await post('/jobs/no-job/resume'))).toBe('job_not_found');
  });

  test('refuses a job whose dataset was deleted', async () => {
    for (const { id, status } of (await api.jobs.listJobs({ limit: 100 })).data) {
      if (status === 'queued') await post(`/jobs/${id}/cancel`);
    }
    expect((await api.app.inject({ method: 'DELETE', url: `/datasets/${dataset}` })).statusCode).toBe(204);
    const answer = await post(`/jobs/${job}/resume`);
    expect([answer.statusCode, codeOf(answer)]).toEqual([404, 'dataset_not_found']);
  });
});

test('POST /jobs/:id/pause pauses a waiting job, whose dataset stays, and resume queues it again', async () => {
  const answer = await post(`/jobs/${job}/pause`);
  expect(answer.statusCode).toBe(200);
  expect(Value.Check(Job, answer.json())).toBe(true);
  expect(answer.json()).toMatchObject({ id: job, status: 'paused' });
  expect((await api.app.inject(`/jobs/${job}`)).json()).toMatchObject({ status: 'paused', queue: null });
  const deletion = await api.app.inject({ method: 'DELETE', url: `/datasets/${dataset}` });
  expect([deletion.statusCode, codeOf(deletion)]).toEqual([409, 'in_use']);
  expect((await post(`/jobs/${job}/resume`)).json()).toMatchObject({ status: 'queued', resumes: 1 });
  await post(`/jobs/${job}/cancel`);
  const ended = await post(`/jobs/${job}/pause`);
  expect([ended.statusCode, codeOf(ended)]).toEqual([409, 'job_not_pausable']);
  expect(codeOf(await post('/jobs/no-job/pause'))).toBe('job_not_found');
});

test('POST /jobs/:id/pause of a job with a worker is accepted', async () => {
  await api.jobs.attempts.start(job, 'a worker');
  const answer = await post(`/jobs/${job}/pause`);
  expect([answer.statusCode, answer.json().status]).toEqual([202, 'preparing']);
  await post(`/jobs/${job}/resume`);
});

test('a stream of all events continues past the end of the job if it was resumed', async () => {
  await post(`/jobs/${job}/cancel`);
  await post(`/jobs/${job}/resume`);
  await post(`/jobs/${job}/cancel`);
  const stream = await api.app.inject({ url: `/jobs/${job}/events`, headers: { accept: 'text/event-stream' } });
  const types = [...stream.body.matchAll(/^event: (.*)$/gm)].map(([, type]) => type);
  expect(types).toEqual(['job-queued', 'job-cancelled', 'job-resumed', 'job-cancelled']);
});

describe('checkpoints', () => {
  test('are listed as the worker reported them', async () => {
    expect((await api.app.inject(`/jobs/${job}/checkpoints`)).json()).toEqual({
      data: [],
      has_more: false,
      next: null,
    });
    const kept = await failWithCheckpoints();
    const answer = await api.app.inject(`/jobs/${job}/checkpoints`);
    expect(Value.Check(CheckpointList, answer.json())).toBe(true);
    expect(answer.json().data).toEqual(kept);
    expect(codeOf(await api.app.inject('/jobs/job_ffffffffffffffffffffffff/checkpoints'))).toBe('job_not_found');
  });

  test.each([
    ['10', 10],
    ['best', 10],
    ['last', 20],
  ])('%s is published by a new job', async (which, step) => {
    await failWithCheckpoints();
    const answer = await post(`/jobs/${job}/checkpoints/${which}/publish`, { name: 'the one' });
    expect(answer.statusCode).toBe(202);
    const publishing = answer.json();
    expect(Value.Check(Job, publishing)).toBe(true);
    expect(answer.headers.location).toBe(`/jobs/${publishing.id}`);
    expect(publishing.id).not.toBe(job);
    expect(publishing).toMatchObject({
      kind: 'publish-checkpoint',
      status: 'queued',
      checkpoint: { job, step },
      name: 'the one',
      dataset,
    });
  });

  test('published without a body become an adapter with the name of the job', async () => {
    await failWithCheckpoints();
    expect((await post(`/jobs/${job}/checkpoints/last/publish`)).json()).toMatchObject({ name: 'mine' });
  });

  test('published twice with the same Idempotency-Key create one job, and the key is refused for another checkpoint', async () => {
    await failWithCheckpoints();
    const headers = { 'idempotency-key': `publish-${job}` };
    const first = await post(`/jobs/${job}/checkpoints/10/publish`, {}, headers);
    const again = await post(`/jobs/${job}/checkpoints/10/publish`, {}, headers);
    expect(again.json().id).toBe(first.json().id);
    expect(codeOf(await post(`/jobs/${job}/checkpoints/20/publish`, {}, headers))).toBe('idempotency_conflict');
    const renamed = await post(`/jobs/${job}/checkpoints/10/publish`, { name: 'other' }, headers);
    expect(codeOf(renamed)).toBe('idempotency_conflict');
  });

  test('a repeated Idempotency-Key returns its job, even if the checkpoint or the job has changed since', async () => {
    await failWithCheckpoints();
    const headers = { 'idempotency-key': `late-${job}` };
    const publish = () => post(`/jobs/${job}/checkpoints/last/publish`, {}, headers);
    const first = (await publish()).json().id;
    await api.jobs.checkpoints.forget(job);
    expect((await publish()).json().id).toBe(first);
    await post(`/jobs/${job}/resume`);
    const again = await publish();
    expect([again.statusCode, again.json().id]).toEqual([202, first]);
    const attempt = await attemptOf(job);
    await api.jobs.attempts.record(attempt, { type: 'checkpoint-saved', data: { step: 30 } }, [
      checkpointAt(30, { is_last: true }),
    ]);
    await api.jobs.attempts.fail(attempt, { code: 'trainer_crashed', message: 'It went away.', details: [] });
    expect((await publish()).json()).toMatchObject({ id: first, checkpoint: { job, step: 20 } });
  });

  test('cannot be published before the job has ended, or if they do not exist', async () => {
    expect(codeOf(await post(`/jobs/${job}/checkpoints/last/publish`))).toBe('job_still_active');
    await failWithCheckpoints();
    for (const which of ['15', 'worst', '-1', '1e1', '../10']) {
      const answer = await post(`/jobs/${job}/checkpoints/${encodeURIComponent(which)}/publish`);
      expect([which, answer.statusCode, codeOf(answer)]).toEqual([which, 404, 'checkpoint_not_found']);
    }
    expect((await post(`/jobs/${job}/checkpoints/10/publish`, { step: 10 })).statusCode).toBe(400);
  });
});

test('an empty JSON body counts as none', async () => {
  const empty = (url: string) =>
    api.app.inject({ method: 'POST', url, payload: '', headers: { 'content-type': 'application/json' } });
  expect((await empty(`/jobs/${job}/cancel`)).statusCode).toBe(200);
  expect((await empty(`/jobs/${job}/resume`)).statusCode).toBe(202);
  await failWithCheckpoints();
  const published = await empty(`/jobs/${job}/checkpoints/last/publish`);
  expect([published.statusCode, published.json().name]).toEqual([202, 'mine']);
});

test('evaluations need validation rows', async () => {
  const training = { eval_every_steps: 2 };
  const dry = (changes: object) => post('/jobs?dry_run=true', { base_model: 'tiny-llama', dataset, ...changes });
  const refused = (await dry({ training })).json().error;
  expect([refused.code, refused.param, refused.details.length]).toEqual([
    'invalid_job',
    'training.eval_every_steps',
    1,
  ]);
  expect(refused.message).toContain('Set validation.split or validation.dataset too');
  const { warnings } = (
    await dry({
      training: { eval_every_steps: 1_000, learning_rate: 0.01 },
      validation: { split: 0.25 },
    })
  ).json();
  expect(warnings).toMatchObject([{ code: 'eval_every_steps_too_large' }]);
});

test('early stopping needs evaluations and validation rows', async () => {
  const training = { early_stopping: { patience: 2 } };
  const dry = (changes: object) => post('/jobs?dry_run=true', { base_model: 'tiny-llama', dataset, ...changes });
  const refused = await dry({ training });
  expect([refused.statusCode, refused.json().error.param]).toEqual([422, 'training.early_stopping']);
  const alone = await dry({ training: { publish: 'best' }, validation: { split: 0.25 } });
  expect([alone.statusCode, alone.json().error.param]).toEqual([422, 'training.publish']);
  const taken = await dry({ training: { ...training, eval_every_steps: 1 }, validation: { split: 0.25 } });
  expect([taken.statusCode, taken.json().publish]).toEqual([200, 'best']);
});
