import { DeliveryEvent, type DeliveryTarget, type DeliveryWebhookBody } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { beforeEach, expect, test } from 'vitest';
import type { JobStore, NewDelivery } from '../src/index.js';
import { jobKeys } from '../src/keys.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

const ADAPTER = 'ad_0123456789abcdef01234567';
const OWNER = 'key_0123456789abcdef01234567';
const OTHER = 'key_765432100123456789abcdef';
const TO: DeliveryTarget = { kind: 'folder', name: 'dates' };

let deliveries: JobStore['deliveries'];
beforeEach(() => {
  deliveries = store.deliveries;
});

const create = (changes: Partial<NewDelivery> = {}) =>
  deliveries.create({ adapter: ADAPTER, owner: OWNER, to: TO, place: 'one', mayReplaceAny: false, ...changes });

/** The lease of a delivery ends, as if its process had died. */
const leaseEnds = (id: string) => redis.zadd(jobKeys(prefix).deliveriesDue, 1, id);

async function claimed() {
  const found = await deliveries.claim();
  if (found === null) throw new Error('nothing is due');
  return found;
}

const DELIVERED = { status: 'delivered', error: null } as const;

test('a delivery is claimed once, with what an earlier attempt kept, and ends once', async () => {
  const { id } = await create();
  const first = await claimed();
  expect(first).toMatchObject({ delivery: { id, attempts: 1, status: 'queued' }, state: null, verdict: 'free' });
  expect(await deliveries.claim()).toBeNull();
  const running = { ...first.delivery, status: 'running' as const };
  expect(await deliveries.write(id, first.token, { delivery: running, state: '{"before":null}' })).toBe('done');
  await leaseEnds(id);
  const second = await claimed();
  expect(second).toMatchObject({ delivery: { id, attempts: 2, status: 'running' }, state: '{"before":null}' });
  expect(await deliveries.write(id, first.token, { delivery: first.delivery })).toBe('lost');
  expect(await deliveries.end(first.delivery, first.token, DELIVERED)).toBe('lost');
  expect(await deliveries.end(second.delivery, second.token, DELIVERED)).toBe('done');
  expect(await deliveries.get(id)).toMatchObject({ status: 'delivered', ended_at: expect.any(String) });
  expect(await deliveries.count()).toBe(0);
  expect(await deliveries.claim()).toBeNull();
});

test('deliveries to one place run one after the other, also after a death, and others meanwhile', async () => {
  const [one, two] = [await create(), await create()];
  const elsewhere = await create({ place: 'two' });
  const first = await claimed();
  expect(first.delivery.id).toBe(one.id);
  expect((await claimed()).delivery.id).toBe(elsewhere.id);
  expect(await deliveries.claim()).toBeNull();
  await leaseEnds(one.id);
  const resumed = await claimed();
  expect(resumed.delivery.id).toBe(one.id);
  await deliveries.end(resumed.delivery, resumed.token, DELIVERED);
  expect((await claimed()).delivery.id).toBe(two.id);
});

test('deliveries of one millisecond to one place run in the order of their acceptance', async () => {
  const accepted = await Promise.all(Array.from({ length: 8 }, () => create()));
  for (const { id } of accepted) {
    const { delivery, token, verdict } = await claimed();
    expect({ id: delivery.id, verdict }).toEqual({ id, verdict: 'free' });
    await deliveries.end(delivery, token, DELIVERED);
  }
});

test('a delivery that waits lets a later one go first, and is then overtaken', async () => {
  const [one, two] = [await create(), await create()];
  const first = await claimed();
  await deliveries.postpone({ ...first.delivery, attempts: 1 }, first.token, { delayMs: 60_000, counts: true });
  const second = await claimed();
  expect(second.delivery.id).toBe(two.id);
  await deliveries.end(second.delivery, second.token, DELIVERED);
  await leaseEnds(one.id);
  expect(await claimed()).toMatchObject({ delivery: { id: one.id, attempts: 2 }, verdict: 'overtaken' });
});

test('a delivery that waits is not overtaken by a later one that failed', async () => {
  const [one] = [await create(), await create()];
  const first = await claimed();
  await deliveries.postpone(first.delivery, first.token, { delayMs: 60_000, counts: false });
  const second = await claimed();
  await deliveries.end(second.delivery, second.token, { status: 'failed', error: { code: 'x', message: 'y' } });
  await leaseEnds(one!.id);
  expect(await claimed()).toMatchObject({ delivery: { id: one!.id, attempts: 1 }, verdict: 'free' });
});

test('what a key has delivered is replaced by another key only if that may do everything', async () => {
  await create();
  const both = await create({ owner: OTHER });
  const first = await claimed();
  await deliveries.end(first.delivery, first.token, DELIVERED);
  // It was accepted while nothing was there.
  expect(await claimed()).toMatchObject({ delivery: { id: both.id }, verdict: 'taken' });
  await expect(create({ owner: OTHER })).rejects.toMatchObject({ code: 'conflict', param: 'name' });
  expect((await create({ owner: OTHER, mayReplaceAny: true })).owner).toBe(OTHER);
  expect((await create()).owner).toBe(OWNER);
});

test('a waiting delivery is cancelled at once, and one that runs is asked to stop', async () => {
  const waiting = await create();
  expect(await deliveries.cancel(waiting.id)).toMatchObject({ status: 'cancelled', error: null });
  expect(await deliveries.claim()).toBeNull();
  const { id } = await create();
  const running = await claimed();
  expect((await deliveries.cancel(id)).ended_at).toBeNull();
  expect(await deliveries.write(id, running.token)).toBe('cancel');
  await deliveries.end(running.delivery, running.token, { status: 'cancelled', error: null });
  expect(await deliveries.cancel(id)).toMatchObject({ status: 'cancelled' });
  await expect(deliveries.cancel('dl_0123456789abcdef01234567')).rejects.toMatchObject({ code: 'delivery_not_found' });
});

test('the deliveries of an adapter are listed newest first, without those of others', async () => {
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push((await create()).id);
  await create({ adapter: 'ad_0123456789abcdef01234568' });
  expect((await deliveries.ofAdapter(ADAPTER)).map(({ id }) => id)).toEqual(ids.reverse());
  expect(await deliveries.ofAdapter('ad_0123456789abcdef01234569')).toEqual([]);
});

test('the deliveries of a job are known from its success on, and each is created once', async () => {
  const to: DeliveryTarget[] = [TO, { kind: 'vllm', url: 'http://127.0.0.1:8000', name: 'dates' }];
  const webhook = { url: 'https://example.com/hook' };
  const spec = aJobSpec({ deliver: to, webhook });
  const { job } = await store.createJob(spec, { requestHash: 'h', owner: OWNER });
  expect(job.deliver).toEqual(to);
  const start = await store.attempts.start(job.id, 'worker');
  if (start.outcome !== 'started') throw new Error('the job did not start');
  expect(await deliveries.ofJobs()).toEqual([]);
  for (let i = 0; i < 2; i++) await store.attempts.succeed(start.attempt, ADAPTER, 3);
  await store.deleteJob(job.id);
  const [asked, ...others] = await deliveries.ofJobs();
  expect(others).toEqual([]);
  expect(asked).toEqual({ job: job.id, owner: OWNER, adapter: ADAPTER, webhookUrl: webhook.url, to });
  const ofJob = { job: job.id, index: 0, webhookUrl: webhook.url };
  // A process that died in between does it again.
  const created = [await create({ ofJob }), await create({ ofJob }), await create({ ofJob: { ...ofJob, index: 1 } })];
  expect(new Set(created.map(({ id }) => id)).size).toBe(2);
  expect(await deliveries.count()).toBe(2);
  await deliveries.createdOfJob(job.id);
  expect(await deliveries.ofJobs()).toEqual([]);
});

test.each(['failed', 'cancelled'] as const)('a job that has %s delivers nothing', async (end) => {
  const { job } = await store.createJob(aJobSpec({ deliver: [TO] }), { requestHash: 'h' });
  const start = await store.attempts.start(job.id, 'worker');
  if (start.outcome !== 'started') throw new Error('the job did not start');
  if (end === 'failed') await store.attempts.fail(start.attempt, { code: 'x', message: 'y', details: [] });
  else await store.attempts.cancel(start.attempt);
  expect(await deliveries.ofJobs()).toEqual([]);
});

test('the end of a delivery is reported to the webhook of its job', async () => {
  const job = 'job_0123456789abcdef01234567';
  const { id } = await create({ ofJob: { job, index: 0, webhookUrl: 'https://example.com/hook' } });
  const { delivery, token } = await claimed();
  expect(await store.webhooks.count()).toBe(0);
  await deliveries.end(delivery, token, { status: 'failed', error: { code: 'delivery_refused', message: 'Ä' } });
  const webhook = await store.webhooks.claim(1_000);
  expect(webhook).toMatchObject({ url: 'https://example.com/hook', owner: OWNER });
  const body = webhook?.body as DeliveryWebhookBody;
  expect(body).toMatchObject({
    type: 'delivery.failed',
    data: { id, job, error: { code: 'delivery_refused', message: 'Ä' } },
  });
  // Another one, which a call asked for, has no webhook.
  await create();
  const other = await claimed();
  await deliveries.end(other.delivery, other.token, DELIVERED);
  expect(await store.webhooks.count()).toBe(1);
});

test('events say each change of state, up to the last one, and ends are counted by kind', async () => {
  const { id } = await create();
  const waiting = deliveries.readEvents(id, { after: (await deliveries.readEvents(id)).next ?? '', blockMs: 20_000 });
  const { delivery, token } = await claimed();
  await deliveries.write(id, token, { delivery: { ...delivery, status: 'running' }, event: 'delivery-started' });
  // Those that wait are woken.
  expect((await waiting).data).toMatchObject([{ type: 'delivery-started', delivery: id, data: { status: 'running' } }]);
  await deliveries.write(id, token, { delivery, state: '{}' });
  await deliveries.postpone(delivery, token, { delayMs: 0, counts: true });
  const again = await claimed();
  await deliveries.end(again.delivery, again.token, DELIVERED);
  const { data } = await deliveries.readEvents(id);
  expect(data.map(({ type }) => type)).toEqual([
    'delivery-queued',
    'delivery-started',
    'delivery-postponed',
    'delivery-delivered',
  ]);
  expect(data.at(-1)?.data).toEqual(await deliveries.get(id));
  expect(data.every((event) => Value.Check(DeliveryEvent, event))).toBe(true);
  const cancelled = await create();
  await deliveries.cancel(cancelled.id);
  expect((await deliveries.readEvents(cancelled.id)).data.at(-1)?.type).toBe('delivery-cancelled');
  expect((await deliveries.endedCounts()).sort((one, other) => (one.status < other.status ? -1 : 1))).toEqual([
    { kind: 'folder', status: 'cancelled', count: 1 },
    { kind: 'folder', status: 'delivered', count: 1 },
  ]);
  await expect(deliveries.readEvents('dl_000000000000000000000000')).rejects.toMatchObject({
    code: 'delivery_not_found',
  });
});
