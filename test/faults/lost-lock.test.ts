import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, SHORT_LOCK_MS, startStand } from './stand/fault-stand.js';
import { startTcpProxy, type TcpProxy } from './stand/tcp-proxy.js';

// A worker that was unreachable for longer than its lock lasts has lost its job, even if it does not know.

const undisturbed = inject('undisturbed');
let stand: FaultStand;
const workers = new Set<Part>();

const start = async (name: string, options: { redisPort?: number } = {}) => {
  const worker = await stand.startWorker(name, options);
  workers.add(worker);
  return worker;
};
const endAll = async () => {
  for (const worker of workers) if (worker.running) worker.signal('SIGTERM');
  await Promise.all([...workers].map((worker) => worker.exited));
  workers.clear();
};

beforeAll(async () => {
  const folders = { modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') };
  stand = await startStand({ ...folders, jobLockMs: SHORT_LOCK_MS });
  await stand.startRegistry();
  await stand.startApi();
});
afterAll(() => stand?.close());

describe('a worker cut off from Redis', () => {
  let proxy: TcpProxy;
  beforeAll(async () => {
    proxy = await startTcpProxy({ host: '127.0.0.1', port: stand.redis.port });
  });
  afterAll(async () => {
    await endAll();
    await proxy.close();
  });

  test('a worker cut off from Redis during training: another one takes the job, and the first cannot publish when it is back', async () => {
    const first = await start('cut-off', { redisPort: proxy.port });
    const accepted = await submit(stand, 'long');
    await when(stand, accepted, 'it trains', isTraining);
    proxy.block();
    await start('second');
    await when(stand, accepted, 'the second worker has it', ({ attempts }) => attempts >= 2);
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job?.status).toBe('succeeded');
    const adapters = await stand.client.listAdapters();
    proxy.unblock();
    await eventually('the first one sees that it has lost the job', () => first.messages.includes('job lost'));
    expect(await stand.client.listAdapters()).toEqual(adapters);
    await accountFor(stand, [accepted], undisturbed);
  });
});

describe('a worker that hangs between its last check of the record and the rename', () => {
  const strike = {
    program: 'worker/dist/main.js',
    call: 'rename',
    when: 'before',
    path: '/adapters/ad_',
    signal: 'SIGSTOP',
  } as const;

  test('finds the adapter of the next worker', async () => {
    const { struck } = await stand.plan(strike);
    const first = await start('still-1');
    const accepted = await submit(stand, 'short');
    await struck();
    await start('next-1');
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job).toMatchObject({ status: 'succeeded' });
    first.signal('SIGCONT');
    await eventually('the first one sees that it has lost the job', () => first.messages.includes('job lost'));
    await accountFor(stand, [accepted], undisturbed);
    await endAll();
  });

  test('removes its adapter if the job was cancelled meanwhile', async () => {
    const { struck } = await stand.plan(strike);
    const first = await start('still-2');
    const accepted = await submit(stand, 'long');
    await struck();
    await start('next-2');
    await when(stand, accepted, 'the next worker trains it', (job) => job.attempts >= 2 && job.status !== 'queued');
    await stand.client.cancelJob(accepted.id);
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job).toMatchObject({ status: 'cancelled' });
    first.signal('SIGCONT');
    await eventually('the first one sees that it has lost the job', () => first.messages.includes('job lost'));
    await accountFor(stand, [accepted], undisturbed);
    await endAll();
  });
});

test('two workers offered the same jobs: each is trained once', async () => {
  await Promise.all([start('left'), start('right')]);
  const accepted = await Promise.all(Array.from({ length: 6 }, () => submit(stand, 'short')));
  const jobs = await accountFor(stand, accepted, undisturbed);
  expect(jobs.map(({ status }) => status)).toEqual(accepted.map(() => 'succeeded'));
  for (const { id } of accepted) {
    const started: number[] = [];
    for await (const event of stand.client.events(id))
      if (event.type === 'job-started') started.push(event.data.attempt);
    // A machine that stalled for longer than the lock lasts may need another attempt, but never two at once.
    expect(started).toEqual(started.map((_, i) => i + 1));
  }
  await endAll();
});
