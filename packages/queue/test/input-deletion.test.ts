import { describe, expect, test } from 'vitest';
import { type CreateJobOptions, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, queue, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

const spec = aJobSpec();
const create = async (options: Partial<CreateJobOptions> = {}) =>
  (await store.createJob(spec, { requestHash: 'h', ...options })).job;

describe('a dataset that is being deleted', () => {
  test('accepts no new jobs until it is uploaded again', async () => {
    expect(await store.inputs.beginDeletion(spec.dataset)).toEqual([]);
    await expect(create()).rejects.toMatchObject({ code: 'dataset_not_found', param: 'dataset' });
    expect((await store.listJobs()).data).toEqual([]);
    await store.inputs.allow(spec.dataset);
    expect((await create()).status).toBe('queued');
  });

  test('accepts jobs again after a minute if the deleting process dies', async () => {
    await store.inputs.beginDeletion(spec.dataset);
    const seconds = await redis.ttl(jobKeys(prefix).inputDeletion(spec.dataset));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
  });

  test('is not deleted while unfinished jobs read it', async () => {
    const job = await create();
    expect(await store.inputs.beginDeletion(spec.dataset)).toEqual([job.id]);
    expect((await create()).status).toBe('queued');
  });

  test('is one that jobs evaluate on, too', async () => {
    const validation = { split: 0, dataset: `ds_${'7'.repeat(24)}` };
    const own = aJobSpec({ validation });
    const createOne = () => store.createJob(own, { requestHash: 'h' });
    const { job } = await createOne();
    expect(await store.inputs.active(validation.dataset)).toEqual([job.id]);
    expect(await store.inputs.beginDeletion(validation.dataset)).toEqual([job.id]);
    expect(await store.inputs.beginDeletion(spec.dataset)).toEqual([job.id]);
    await store.requestCancel(job.id);
    expect(await store.inputs.active(validation.dataset)).toEqual([]);
    expect(await store.inputs.beginDeletion(validation.dataset)).toEqual([]);
    const gone = { code: 'dataset_not_found', param: 'validation.dataset' };
    await expect(createOne()).rejects.toMatchObject(gone);
    await expect(store.resumeJob(job.id)).rejects.toMatchObject(gone);
    await store.inputs.allow(validation.dataset);
    expect((await store.resumeJob(job.id)).status).toBe('queued');
    expect(await store.inputs.active(validation.dataset)).toEqual([job.id]);
  });

  test('is held by an attempt, and free when it ends', async () => {
    const validation = { split: 0, dataset: `ds_${'8'.repeat(24)}` };
    const { job } = await store.createJob(aJobSpec({ validation }), { requestHash: 'h' });
    const start = await store.attempts.start(job.id, 'worker');
    if (start.outcome !== 'started') throw new Error(start.reason);
    expect(await store.inputs.active(validation.dataset)).toEqual([job.id]);
    await store.attempts.fail(start.attempt, { code: 'trainer_crashed', message: 'gone', details: [] });
    expect(await store.inputs.active(validation.dataset)).toEqual([]);
    expect(await store.inputs.active(spec.dataset)).toEqual([]);
  });

  test('is an adapter, too, at which a name is pointed: neither overlooks the other', async () => {
    const adapter = `ad_${'8'.repeat(24)}`;
    let point: (text: string) => void = () => {};
    const pointed = new Promise<string>((resolve) => {
      point = resolve;
    });
    const naming = store.inputs.whileNaming(adapter, () => pointed);
    await expect.poll(() => store.inputs.isBeingNamed(adapter)).toBe(true);
    // Another name that is pointed at it meanwhile removes no mark but its own.
    expect(await store.inputs.whileNaming(adapter, async () => 'other')).toBe('other');
    expect(await store.inputs.isBeingNamed(adapter)).toBe(true);
    const seconds = await redis.ttl(jobKeys(prefix).namingOfInput(adapter));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
    point('named');
    expect(await naming).toBe('named');
    expect(await store.inputs.isBeingNamed(adapter)).toBe(false);

    expect(await store.inputs.beginDeletion(adapter)).toEqual([]);
    let isPointed = false;
    const refused = store.inputs.whileNaming(adapter, async () => {
      isPointed = true;
    });
    await expect(refused).rejects.toMatchObject({ code: 'adapter_not_found' });
    expect([isPointed, await store.inputs.isBeingNamed(adapter)]).toEqual([false, false]);
  });

  test('and an error of pointing a name is no error of Redis', async () => {
    const failed = Object.assign(new Error('no space'), { code: 'ENOSPC' });
    const naming = store.inputs.whileNaming(`ad_${'9'.repeat(24)}`, () => Promise.reject(failed));
    await expect(naming).rejects.toBe(failed);
  });

  test('is an adapter, too, from which a job begins', async () => {
    const adapter = `ad_${'7'.repeat(24)}`;
    const own = aJobSpec({ lora: { ...spec.lora, init_from: adapter } });
    const createOne = () => store.createJob(own, { requestHash: 'h' });
    const { job } = await createOne();
    expect(await store.inputs.beginDeletion(adapter)).toEqual([job.id]);
    const start = await store.attempts.start(job.id, 'worker');
    if (start.outcome !== 'started') throw new Error(start.reason);
    expect(await store.inputs.beginDeletion(adapter)).toEqual([job.id]);
    await store.attempts.fail(start.attempt, { code: 'trainer_crashed', message: 'gone', details: [] });
    expect(await store.inputs.beginDeletion(adapter)).toEqual([]);
    const gone = { code: 'adapter_not_found', param: 'lora.init_from' };
    await expect(createOne()).rejects.toMatchObject(gone);
    await expect(store.resumeJob(job.id)).rejects.toMatchObject(gone);
    // Another job on the same dataset is none of its concern.
    expect((await create()).status).toBe('queued');
  });

  test('prevents resuming a training job, but not publishing a checkpoint', async () => {
    const job = await create();
    await store.requestCancel(job.id);
    await store.inputs.beginDeletion(spec.dataset);
    await expect(store.resumeJob(job.id)).rejects.toMatchObject({ code: 'dataset_not_found' });
    expect((await store.getJob(job.id))!.status).toBe('cancelled');
    const publishing = await create({ task: { kind: 'publish-checkpoint', checkpoint: { job: job.id, step: 3 } } });
    expect(publishing.status).toBe('queued');
    await store.requestCancel(publishing.id);
    expect((await store.resumeJob(publishing.id)).status).toBe('queued');
  });

  test.each(['dataset', 'validation', 'initial adapter'] as const)(
    'whichever comes first, no job reads a deleted one: %s',
    async (which) => {
      const outcomes = new Set<string>();
      for (let attempt = 0; attempt < 40; attempt++) {
        const number = String(attempt).padStart(24, which === 'dataset' ? '0' : '1');
        const input = which === 'initial adapter' ? `ad_${number}` : `ds_${number}`;
        const own = aJobSpec(
          {
            dataset: { dataset: input },
            validation: { validation: { split: 0, dataset: input } },
            'initial adapter': { lora: { ...spec.lora, init_from: input } },
          }[which],
        );
        const creating = () =>
          store.createJob(own, { requestHash: 'h' }).then(
            () => 'created',
            (error: { code: string }) => error.code,
          );
        const deleting = () => store.inputs.beginDeletion(input);
        const [first, users, second] = await Promise.all(
          attempt % 2 === 0
            ? ([creating(), deleting(), creating()] as const)
            : ([creating(), deleting(), Promise.resolve('none')] as const),
        );
        const active = await store.inputs.active(input);
        const isDeleted = users.length === 0;
        expect(active.length > 0).toBe(!isDeleted);
        for (const outcome of [first, second]) outcomes.add(outcome);
        if (isDeleted) expect([first, second]).not.toContain('created');
      }
      expect(outcomes).toContain('created');
    },
  );
});

describe('the job of a repeated request', () => {
  const idempotencyKey = 'once';

  test('is found by its idempotency key and request digest, and is not created again', async () => {
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toBeNull();
    const job = await create({ idempotencyKey });
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toEqual(job);
    expect(await store.repeatedJob({ idempotencyKey: 'another', requestHash: 'h' })).toBeNull();
    const conflict = store.repeatedJob({ idempotencyKey, requestHash: 'other' });
    await expect(conflict).rejects.toMatchObject({ code: 'idempotency_conflict' });
  });

  test('is found only by its owner', async () => {
    const owner = `key_${'0'.repeat(24)}`;
    const job = await create({ idempotencyKey, owner });
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toBeNull();
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h', owner })).toEqual(job);
  });

  test('is queued if the first request failed before it could queue the job', async () => {
    const job = await create({ idempotencyKey });
    await queue.remove((await queue.getWaiting())[0]!.id!);
    expect(await queue.getWaitingCount()).toBe(0);
    await store.repeatedJob({ idempotencyKey, requestHash: 'h' });
    expect((await queue.getWaiting()).map(({ id }) => id)).toEqual([expect.stringContaining(job.id)]);
  });

  test('is not found once it is deleted', async () => {
    const job = await create({ idempotencyKey });
    await store.requestCancel(job.id);
    await store.deleteJob(job.id);
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toBeNull();
  });
});
