import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { Sampler, SessionRow, TrainingSession } from '../../packages/client/src/index.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, startStand } from './stand/fault-stand.js';
import { BASE_MODEL } from './stand/jobs-of-the-suite.js';

// Processes die while a client trains call by call. What was saved stays, and the client is told what was not.

const ROWS: SessionRow[] = [
  { tokens: [5, 9, 14, 3, 77], targets: [9, 14, 3, 77, 31] },
  { tokens: [31, 8, 60], targets: [8, 60, 12] },
];
const LOST = { code: 'cancelled', message: expect.stringContaining('since the last save is lost') };
const GREEDY = { max_tokens: 8, temperature: 0 };

let stand: FaultStand;
let api: Part;
let worker: Part;
/** The losses of a training without faults. */
let undisturbed: number[];

beforeAll(async () => {
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') });
  await stand.startRegistry();
  worker = await stand.startWorker('one');
  api = await stand.startApi();
  const session = await begun();
  undisturbed = await steps(session, 4);
  await session.close();
});
afterAll(() => stand?.close());

const begun = () => stand.client.createTrainingSession({ base_model: BASE_MODEL, rank: 4, seed: 1 });

async function steps(session: TrainingSession, count: number): Promise<number[]> {
  const losses: number[] = [];
  for (let step = 0; step < count; step++) {
    const [{ loss }] = await Promise.all([session.forwardBackward(ROWS), session.optimStep({ learning_rate: 1e-2 })]);
    losses.push(loss);
  }
  return losses;
}

/** The files of an adapter are whole, and the adapter is listed once. */
async function expectListed(adapter: string): Promise<void> {
  const { data } = await stand.client.listAdapters({ limit: 100 });
  expect(data.filter(({ id }) => id === adapter)).toHaveLength(1);
}

const tokensOf = async (sampler: Sampler) => (await sampler.sample([5, 9, 14], GREEDY)).samples[0]!.tokens;

test('the api: calls in work are answered by the next process, each done once', async () => {
  const session = await begun();
  const first = await steps(session, 2);
  const sampler = await session.sampler();
  const before = await tokensOf(sampler);
  const later = steps(session, 2);
  const sampled = tokensOf(sampler);
  later.catch(() => {});
  sampled.catch(() => {});
  api.signal('SIGKILL');
  await api.exited;
  api = await stand.startApi();
  expect([...first, ...(await later)]).toEqual(undisturbed);
  expect(await sampled).toEqual(before);
  await session.close();
});

test('the trainer: the client is told, and a session goes on from what was saved', async () => {
  const session = await begun();
  const first = await steps(session, 2);
  const { path, adapter } = await session.saveState('trainer-killed');
  await steps(session, 1);
  process.kill((await stand.trainer()).pid, 'SIGKILL');
  await expect(steps(session, 1)).rejects.toMatchObject({ message: expect.stringContaining('lost') });
  await session.close();
  const next = await stand.client.createTrainingSession({ from: path });
  expect([...first, ...(await steps(next, 2))]).toEqual(undisturbed);
  await next.close();
  await expectListed(adapter);
});

test.each(['before', 'after'] as const)(
  'the worker %s a checkpoint appears: what was saved before is continued',
  async (when) => {
    const session = await begun();
    const first = await steps(session, 2);
    const saved = await session.saveState(`before-${when}`);
    await steps(session, 1);
    const { struck } = await stand.plan({
      program: 'worker/dist/main.js',
      call: 'rename',
      when,
      path: '/adapters/ad_',
    });
    const failed = expect(session.saveState(`struck-${when}`)).rejects.toMatchObject(LOST);
    await struck();
    await worker.exited;
    worker = await stand.startWorker('one');
    await failed;
    await session.close();
    const next = await stand.client.createTrainingSession({ from: saved.path });
    expect([...first, ...(await steps(next, 2))]).toEqual(undisturbed);
    // The same name can be saved again.
    const again = await next.saveState(`struck-${when}`);
    await next.close();
    await expectListed(saved.adapter);
    await expectListed(again.adapter);
  },
);

test('the worker while a client waits for its model: the next worker opens it', async () => {
  worker.signal('SIGKILL');
  await worker.exited;
  const opening = begun();
  await eventually('the session is open', async () => {
    const answer = await fetch(`${stand.apiUrl}/tinker/api/v1/sessions`, { headers: { 'x-api-key': 'tml-none' } });
    return ((await answer.json()) as { sessions: string[] }).sessions.length > 0;
  });
  worker = await stand.startWorker('one');
  const session = await opening;
  expect(await steps(session, 4)).toEqual(undisturbed);
  await session.close();
});
