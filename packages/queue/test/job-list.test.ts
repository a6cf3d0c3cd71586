import {
  type DetailsChange,
  type JobId,
  type JobWebhookBody,
  type KeyId,
  newIdentifier,
  ProductError,
} from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { type JobStore, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

type Changes = Parameters<typeof aJobSpec>[0];
const create = async (changes: Changes = {}, owner: KeyId | null = null): Promise<JobId> =>
  (await store.createJob(aJobSpec(changes), { requestHash: 'h', owner })).job.id;
const list = async (options: Parameters<JobStore['listJobs']>[0] = {}) => {
  const page = await store.listJobs(options);
  return { ids: page.data.map(({ id }) => id), total: page.total, next: page.next };
};
const codeOf = (error: unknown) => (error instanceof ProductError ? error.code : error);
const withRank = (r: number) => ({ lora: { ...aJobSpec().lora, r } });

async function createSweep(ranks: number[], owner: KeyId | null = null) {
  const variants = ranks.map((r) => ({
    values: { 'lora.r': r },
    spec: aJobSpec({ ...withRank(r), name: `swept ${r}` }),
    adapterBytes: 10,
  }));
  const request = {
    job: { base_model: 'tiny-llama', dataset: aJobSpec().dataset },
    space: { 'lora.r': { values: ranks } },
  };
  const { sweep } = await store.sweeps.create(request, variants, { requestHash: 'h', owner });
  return { id: sweep.id, jobs: sweep.variants.map(({ job }) => job) };
}

describe('filters', () => {
  test('finds by a text in name, id, model, dataset or tags, whatever its case, among all jobs', async () => {
    const named = await create({ name: 'Größe und ÄRGER' });
    const other = await create({ base_model: 'Tiny-Gemma', dataset: 'ds_abcdefabcdefabcdefabcdef' });
    for (let i = 0; i < 30; i++) await create({ name: `later ${i}` });
    await store.changeDetails(other, { tags: ['Grün', 'two words'] });
    expect((await list({ q: 'größe UND ä' })).ids).toEqual([named]);
    expect((await list({ q: named.slice(4, 20).toUpperCase() })).ids).toEqual([named]);
    for (const q of ['tiny-gem', 'ds_abcdef', 'grün', 'TWO words']) expect((await list({ q })).ids).toEqual([other]);
    expect(await list({ q: 'absent' })).toEqual({ ids: [], total: 0, next: null });
    // A text is no pattern.
    for (const q of ['later.*', '%d', '[a-z]']) expect((await list({ q })).ids).toEqual([]);
    expect((await list({ name: 'tiny' })).ids).toEqual([]);
    expect(await list({ name: 'LATER', limit: 5 })).toMatchObject({ total: 30 });
  });

  test('filters by model, dataset, sweep, state, tags and time, and all of them must match', async () => {
    const before = Date.now();
    const sweep = await createSweep([4, 8]);
    const [first, second] = [await create({ base_model: 'a' }), await create({ base_model: 'a', name: 'x' })];
    await store.changeDetails(first, { tags: ['one', 'two'] });
    await store.changeDetails(second, { tags: ['two', 'twofold'] });
    expect((await list({ base_model: 'a' })).ids).toEqual([second, first]);
    expect((await list({ dataset: 'ds_000000000000000000000000' })).total).toBe(0);
    expect((await list({ sweep: sweep.id })).ids).toEqual(sweep.jobs.toReversed());
    expect((await list({ tags: ['two'] })).ids).toEqual([second, first]);
    expect((await list({ tags: ['two', 'one'] })).ids).toEqual([first]);
    expect((await list({ tags: ['fold'] })).ids).toEqual([]);
    await store.requestCancel(first);
    expect((await list({ base_model: 'a', status: 'queued' })).ids).toEqual([second]);
    expect((await list({ base_model: 'a', tags: ['one'], q: 'x' })).ids).toEqual([]);
    expect((await list({ createdFrom: before, base_model: 'a' })).total).toBe(2);
    expect((await list({ createdBefore: before })).total).toBe(0);
    expect((await list({ createdFrom: Date.now() + 60_000 })).total).toBe(0);
  });

  test('a key finds and counts only its own jobs', async () => {
    const [one, other] = [newIdentifier('key'), newIdentifier('key')];
    const mine = await create({ name: 'secret plan' }, one);
    await create({ name: 'secret plan' }, other);
    await create({ name: 'secret plan' });
    expect(await list({ owner: one, q: 'secret' })).toEqual({ ids: [mine], total: 1, next: null });
    expect(await list({ owner: one, sort: 'name' })).toMatchObject({ ids: [mine], total: 1 });
    expect(await list({ owner: one })).toMatchObject({ ids: [mine], total: 1 });
    expect(await list({ owner: one, status: 'queued' })).toMatchObject({ ids: [mine], total: 1 });
    expect(await list({ q: 'secret' })).toMatchObject({ total: 3 });
  });

  test('a deleted job is found no more, and leaves nothing to find it by', async () => {
    const id = await create({ name: 'gone' });
    await store.changeDetails(id, { tags: ['gone'] });
    await store.requestCancel(id);
    await store.deleteJob(id);
    expect((await list({ q: 'gone' })).total).toBe(0);
    expect(await redis.exists(jobKeys(prefix).searchFacts)).toBe(0);
  });

  test('more jobs than Redis looks at without a pause are all found, page by page, each once', async () => {
    const others = await create({ name: 'oldest' });
    await Promise.all(Array.from({ length: 2_100 }, (_, i) => create({ name: i % 3 === 0 ? 'Third' : 'other' })));
    const found = await list({ name: 'third', limit: 100 });
    expect(found.total).toBe(700);
    const seen = new Set<string>(found.ids);
    for (let { next } = found; next !== null; ) {
      const page = await list({ name: 'third', limit: 100, after: next });
      expect(page.total).toBe(700);
      for (const id of page.ids) seen.add(id);
      next = page.next;
    }
    expect(seen.size).toBe(700);
    expect((await list({ name: 'oldest' })).ids).toEqual([others]);
  });
});

describe('order', () => {
  test('sorts all jobs by a name, a state or a setting, without a value last in both orders', async () => {
    const unnamed = await create(withRank(16));
    const [ten, nine, four] = [
      await create({ name: 'run 10', ...withRank(10) }),
      await create({ name: 'run 9', ...withRank(9) }),
      await create({ name: 'Run 4', ...withRank(100) }),
    ];
    expect((await list({ sort: 'name' })).ids).toEqual([four, nine, ten, unnamed]);
    expect((await list({ sort: 'name', order: 'desc' })).ids).toEqual([ten, nine, four, unnamed]);
    expect((await list({ sort: 'lora.r' })).ids).toEqual([nine, ten, unnamed, four]);
    expect((await list({ sort: 'created_at', order: 'asc' })).ids).toEqual([unnamed, ten, nine, four]);
    await store.requestCancel(nine);
    expect((await list({ sort: 'status' })).ids).toEqual([nine, four, ten, unnamed]);
    // Equal ones: the newest first.
    expect((await list({ sort: 'base_model' })).ids).toEqual([four, nine, ten, unnamed]);
    expect((await list({ sort: 'time' })).ids[0]).toBe(nine);
  });

  test('each page continues behind the last one, also when that matches no more', async () => {
    const ids: JobId[] = [];
    for (const r of [5, 1, 4, 2, 3]) ids.push(await create(withRank(r)));
    const [five, one, four, two, three] = ids as [JobId, JobId, JobId, JobId, JobId];
    const query = { sort: 'lora.r', status: 'queued', limit: 2 } as const;
    const first = await list(query);
    expect(first).toEqual({ ids: [one, two], total: 5, next: two });
    await store.requestCancel(two);
    expect(await list({ ...query, after: two })).toEqual({ ids: [three, four], total: 4, next: four });
    expect(await list({ ...query, after: four })).toEqual({ ids: [five], total: 4, next: null });
    expect(await list({ ...query, order: 'desc', after: four })).toMatchObject({ ids: [three, one] });
    const absent = 'job_000000000000000000000000';
    expect(await store.listJobs({ ...query, after: absent }).catch(codeOf)).toBe('invalid_request');
  });

  test('of each sweep the first job alone is listed and counted', async () => {
    const early = await create({ name: 'early' });
    const sweep = await createSweep([4, 8, 16]);
    const late = await create({ name: 'late', ...withRank(6) });
    expect(await list({ collapse: 'sweep' })).toMatchObject({ ids: [late, sweep.jobs[2], early], total: 3 });
    expect(await list({ collapse: 'sweep', sort: 'lora.r' })).toMatchObject({ ids: [sweep.jobs[0], late, early] });
    expect(await list({ collapse: 'sweep', q: 'swept 8' })).toMatchObject({ ids: [sweep.jobs[1]], total: 1 });
    const first = await list({ collapse: 'sweep', limit: 2 });
    expect(await list({ collapse: 'sweep', limit: 2, after: first.next! })).toEqual({
      ids: [early],
      total: 3,
      next: null,
    });
  });
});

describe('details', () => {
  test('name, tags and note are changed together, whatever the state, and nothing else is', async () => {
    const id = await create({ name: 'before', metadata: { a: 'b' } });
    const job = (await store.getJob(id))!;
    expect(job).toMatchObject({ name: 'before', tags: [], note: null });
    const change: DetailsChange = { name: 'after', tags: ['b', 'a'], note: 'Two\nlines' };
    expect(await store.changeDetails(id, change)).toEqual({ ...job, ...change });
    expect((await list({ name: 'before' })).total).toBe(0);
    expect((await list({ name: 'after', tags: ['a'] })).ids).toEqual([id]);
    await store.requestCancel(id);
    expect(await store.changeDetails(id, { note: null })).toMatchObject({
      name: 'after',
      tags: ['b', 'a'],
      note: null,
    });
    expect(await store.changeDetails(id, { name: null, tags: [] })).toMatchObject({ name: null, tags: [], note: null });
    expect((await list({ tags: ['a'] })).total).toBe(0);
    expect((await store.getJob(id))!.metadata).toEqual({ a: 'b' });
  });

  test('changes of different fields at the same time are all kept', async () => {
    const id = await create();
    await Promise.all([
      store.changeDetails(id, { name: 'n' }),
      store.changeDetails(id, { tags: ['t'] }),
      store.changeDetails(id, { note: 'o' }),
    ]);
    expect(await store.getJob(id)).toMatchObject({ name: 'n', tags: ['t'], note: 'o' });
    expect((await list({ name: 'n', tags: ['t'] })).ids).toEqual([id]);
  });

  test('a job that does not exist is not made by a change', async () => {
    const absent = 'job_000000000000000000000000';
    expect(await store.changeDetails(absent, { name: 'n' }).catch(codeOf)).toBe('job_not_found');
    expect(await redis.exists(jobKeys(prefix).job(absent), jobKeys(prefix).searchFacts)).toBe(0);
  });

  test('the webhook of its end has the name that the job has then', async () => {
    const webhook = { url: 'https://example.com/hook' };
    const id = await create({ name: 'before', webhook, metadata: { a: 'b' } });
    await store.changeDetails(id, { name: 'after' });
    await store.requestCancel(id);
    const unnamed = await create({ webhook });
    await store.requestCancel(unnamed);
    const sent = [await store.webhooks.claim(60_000), await store.webhooks.claim(60_000)];
    const names = sent.map((message) => {
      const { id: job, name, metadata } = message!.body.data as JobWebhookBody['data'];
      return [job, name, metadata];
    });
    expect(new Map(names.map(([job, ...rest]) => [job, rest]))).toEqual(
      new Map([
        [id, ['after', { a: 'b' }]],
        [unnamed, [null, {}]],
      ]),
    );
  });

  test('a job whose name and metadata have half a character ends like every other', async () => {
    const half = 'a\ud83d';
    const id = await create({ name: half, metadata: { [half]: half }, webhook: { url: 'https://example.com/hook' } });
    expect(await store.requestCancel(id)).toMatchObject({
      status: 'cancelled',
      name: half,
      metadata: { [half]: half },
    });
    expect((await store.webhooks.claim(60_000))?.body.data).toMatchObject({ name: half, metadata: { [half]: half } });
  });
});
