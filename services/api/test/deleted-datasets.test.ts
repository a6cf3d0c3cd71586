import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

let server: RealRedis;
let api: RealApi;

beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});

async function upload(label: string): Promise<string> {
  const headers = { 'content-type': 'text/plain' };
  const payload = promptRows(20, label);
  const answer = await api.app.inject({ method: 'POST', url: '/datasets', payload, headers });
  return answer.json().id;
}

const remove = (dataset: string) => api.app.inject({ method: 'DELETE', url: `/datasets/${dataset}` });
const post = (dataset: string, { key, query = '' }: { key?: string; query?: string } = {}) =>
  api.app.inject({
    method: 'POST',
    url: `/jobs${query}`,
    payload: { base_model: 'tiny-llama', dataset },
    headers: key === undefined ? {} : { 'idempotency-key': key },
  });
const tokensOf = async (dataset: string) =>
  (await readdir(path.join(api.folder, 'tokens'))).filter((name) => name.startsWith(`${dataset}-`));

test('deleting a dataset also deletes its tokens', async () => {
  const dataset = await upload('tokens');
  expect((await post(dataset, { query: '?dry_run=true' })).statusCode).toBe(200);
  expect(await tokensOf(dataset)).toHaveLength(1);
  expect((await post(dataset, { query: '?dry_run=true' })).statusCode).toBe(200);
  expect(await tokensOf(dataset)).toHaveLength(1);
  expect((await remove(dataset)).statusCode).toBe(204);
  expect(await tokensOf(dataset)).toEqual([]);
});

test('a dataset that an unfinished job evaluates on is not deleted', async () => {
  const [dataset, validation] = [await upload('trained on'), await upload('evaluated on')];
  const payload = { base_model: 'tiny-llama', dataset, validation: { dataset: validation } };
  const job = await api.app.inject({ method: 'POST', url: '/jobs', payload });
  expect(job.statusCode).toBe(202);
  const { id } = job.json();
  for (const one of [dataset, validation]) {
    const refused = await remove(one);
    expect([refused.statusCode, refused.json().error.code]).toEqual([409, 'in_use']);
    expect(refused.json().error.message).toContain(id);
  }
  expect(await tokensOf(validation)).toHaveLength(1);
  await api.app.inject({ method: 'POST', url: `/jobs/${id}/cancel` });
  expect((await remove(validation)).statusCode).toBe(204);
  expect(await tokensOf(validation)).toEqual([]);
  const resumed = await api.app.inject({ method: 'POST', url: `/jobs/${id}/resume` });
  expect(resumed.json().error).toMatchObject({ code: 'dataset_not_found', param: 'validation.dataset' });
});

test('a repeated request returns its job before anything is planned', async () => {
  const dataset = await upload('repeated');
  const first = await post(dataset, { key: 'repeated' });
  expect(first.statusCode).toBe(202);
  const { id } = first.json();
  await api.app.inject({ method: 'POST', url: `/jobs/${id}/cancel` });
  expect((await remove(dataset)).statusCode).toBe(204);
  const again = await post(dataset, { key: 'repeated' });
  expect([again.statusCode, again.json().id, again.json().status]).toEqual([202, id, 'cancelled']);
  expect((await post(dataset, { key: 'new' })).json().error.code).toBe('dataset_not_found');
});

test('a dataset that is uploaded again accepts jobs at once', async () => {
  const dataset = await upload('again');
  expect((await remove(dataset)).statusCode).toBe(204);
  expect(await upload('again')).toBe(dataset);
  expect((await post(dataset)).statusCode).toBe(202);
});

test('of a concurrent job and deletion one is refused', async () => {
  for (let round = 0; round < 6; round++) {
    const dataset = await upload(`race ${round}`);
    // In every other round planning is fast, so that the two overlap.
    if (round % 2 === 0) await post(dataset, { query: '?dry_run=true' });
    const [job, deletion] = await Promise.all([post(dataset), remove(dataset)]);
    const stored = await api.app.inject(`/datasets/${dataset}`);
    expect([
      [202, 409, 200],
      [404, 204, 404],
    ]).toContainEqual([job.statusCode, deletion.statusCode, stored.statusCode]);
    if (job.statusCode === 404) expect(job.json().error.code).toBe('dataset_not_found');
  }
});
