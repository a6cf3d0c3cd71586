import type { JobId, JobPriority, KeyId } from '@lorasmith/contracts';
import { type Job as Entry, UnrecoverableError, Worker } from 'bullmq';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createJobStore, type JobAttempt, type JobStore, jobKeys, jobOfBullId, QUEUE_NAME } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

/** A process that has read the queue before. */
let reader: JobStore;
let worker: Worker;

beforeEach(() => {
  reader = createJobStore({ redis, prefix });
  const connection = { connection: redis, prefix: jobKeys(prefix).queuePrefix };
  worker = new Worker(QUEUE_NAME, null, { ...connection, autorun: false, lockDuration: 600_000 });
});
afterEach(async () => {
  await reader.close();
  await worker.close(true);
});

const KEYS = ['a', 'b'].map((letter) => `key_${letter.repeat(24)}` as KeyId);
const logs = () => [`${jobKeys(prefix).queuePrefix}:${QUEUE_NAME}:events`, jobKeys(prefix).queueChanges];

async function send(priority: JobPriority = 'normal', owner: KeyId | null = null): Promise<JobId> {
  return (await store.createJob(aJobSpec({ priority }), { requestHash: 'h', owner })).job.id;
}

/** The waiting jobs that a process sees, by entry, and the number of jobs of each key that workers hold. */
async function seenBy({ queue }: JobStore) {
  const { waiting, usage } = await queue.snapshot();
  const held = [...usage].map(([key, use]) => [key, use.leased] as const);
  return {
    waiting: Object.fromEntries(waiting.map(({ bullId, entry }) => [bullId, entry])),
    held: Object.fromEntries(held.sort()),
  };
}

/** The same for a process that reads the queue for the first time. */
async function seenByNew() {
  const other = createJobStore({ redis, prefix });
  try {
    return await seenBy(other);
  } finally {
    await other.close();
  }
}

async function waitingFor(one: JobStore): Promise<string[]> {
  return (await one.queue.snapshot()).waiting.map(({ bullId }) => bullId).sort();
}

test('a process that reads only changes sees the same as one that reads everything', async () => {
  let seed = 11;
  const random = (count: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * count);
  };
  const oneOf = <One>(list: readonly One[]): One | undefined => list[random(list.length)];
  const known: JobId[] = [];
  const held: { taken: Entry; token: string; attempt: JobAttempt }[] = [];
  const releaseOne = async (work: (one: (typeof held)[number]) => Promise<unknown>) => {
    const [one] = held.splice(random(held.length), 1);
    if (one !== undefined) await work(one);
  };
  const take = async () => {
    const { waiting } = await store.queue.snapshot();
    const wanted = oneOf(waiting);
    if (wanted === undefined) return;
    await store.queue.moveToFront(wanted.bullId);
    const token = `token-${known.length}-${seed}`;
    const taken = await worker.getNextJob(token, { block: false });
    expect(taken?.id).toBe(wanted.bullId);
    const { id, resumes } = jobOfBullId(wanted.bullId);
    const start = await store.attempts.start(id, 'w', resumes);
    if (start.outcome === 'started') held.push({ taken: taken!, token, attempt: start.attempt });
    else await taken!.moveToCompleted(null, token, false);
  };
  const operations: (() => Promise<unknown>)[] = [
    async () => known.push(await send(oneOf(['low', 'normal', 'high'] as const), oneOf([null, ...KEYS]))),
    async () => known.push(await send()),
    take,
    take,
    () =>
      releaseOne(async ({ taken, token, attempt }) => {
        await store.attempts.succeed(attempt, 'ad_0123456789abcdef01234567');
        await taken.moveToCompleted(null, token, false);
      }),
    () =>
      releaseOne(async ({ taken, token, attempt }) => {
        await store.attempts.release(attempt, { hasHadSlice: random(2) === 0, startsAlone: random(2) === 0 });
        await taken.moveToWait(token);
      }),
    () =>
      releaseOne(async ({ taken, token, attempt }) => {
        await store.attempts.release(attempt);
        await store.queue.delay(attempt.job.id, 1_000);
        await taken.moveToFailed(new Error('again'), token, false);
      }),
    () =>
      releaseOne(async ({ taken, token, attempt }) => {
        await store.attempts.fail(attempt, { code: 'trainer_crashed', message: 'It broke.', details: [] });
        await taken.moveToFailed(new UnrecoverableError('It broke.'), token, false);
      }),
    async () => await store.requestPause(oneOf(known)!).catch(() => {}),
    async () => await store.requestCancel(oneOf(known)!).catch(() => {}),
    async () => await store.resumeJob(oneOf(known)!).catch(() => {}),
    async () => await store.deleteJob(oneOf(known)!).catch(() => {}),
    // A log that was dropped.
    async () => await redis.del(logs()[random(2)]!),
  ];
  known.push(await send());
  for (let i = 0; i < 400; i++) {
    await oneOf(operations)!();
    // Some changes are read one by one, others together.
    if (random(3) > 0) expect(await seenBy(reader)).toEqual(await seenByNew());
  }
  expect(Object.keys((await seenBy(reader)).waiting).length).toBeGreaterThan(5);
});

test('a process reads only what has changed, and everything when it is asked to', async () => {
  const [first, second] = [await send(), await send()];
  expect(await waitingFor(reader)).toEqual([first, second].sort());
  // By hand, so that no log has it.
  await redis.lrem(`${jobKeys(prefix).queuePrefix}:${QUEUE_NAME}:wait`, 1, first);
  const third = await send();
  expect(await waitingFor(reader)).toEqual([first, second, third].sort());
  reader.queue.forgetCopy();
  expect(await waitingFor(reader)).toEqual([second, third].sort());
});

test('a process sees the job of another version, which writes no log of entries', async () => {
  await waitingFor(reader);
  await send();
  await waitingFor(reader);
  const next = await send();
  const { queueChanges, queueEntries } = jobKeys(prefix);
  const [[line] = ['']] = await redis.xrevrange(queueChanges, '+', '-', 'COUNT', 1);
  await redis.xdel(queueChanges, line);
  const { waiting } = await reader.queue.snapshot();
  expect(waiting.find(({ id }) => id === next)?.entry).toEqual(JSON.parse((await redis.hget(queueEntries, next))!));
});

test('a process that was away while a log dropped lines reads everything', async () => {
  const first = await send();
  expect(await waitingFor(reader)).toEqual([first]);
  for (const log of logs()) {
    await store.requestCancel((await store.listJobs({ limit: 1 })).data[0]!.id);
    const next = await send();
    await redis.xtrim(log, 'MAXLEN', 1);
    expect(await waitingFor(reader)).toEqual([next]);
  }
});

test('a process sees what is left when Redis has lost its last writes', async () => {
  const kept = await send();
  const all = await redis.keys(`${prefix}*`);
  const saved = await Promise.all(all.map(async (key) => [key, (await redis.dumpBuffer(key))!] as const));
  const lost = await send();
  expect(await waitingFor(reader)).toEqual([kept, lost].sort());

  await redis.del(...(await redis.keys(`${prefix}*`)));
  for (const [key, value] of saved) await redis.restore(key, 0, value);
  expect(await waitingFor(reader)).toEqual([kept]);

  await redis.del(...(await redis.keys(`${prefix}*`)));
  expect(await waitingFor(reader)).toEqual([]);
  const next = await send();
  expect(await waitingFor(reader)).toEqual([next]);
});

test('looks at the same time each see what was written before them', async () => {
  const sent: JobId[] = [];
  const looks: Promise<void>[] = [];
  for (let i = 0; i < 20; i++) {
    sent.push(await send());
    const expected = [...sent];
    looks.push(waitingFor(reader).then((seen) => expect(seen).toEqual(expect.arrayContaining(expected))));
  }
  await Promise.all(looks);
});
