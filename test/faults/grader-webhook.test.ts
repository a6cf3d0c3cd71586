import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text as streamText } from 'node:stream/consumers';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test } from 'vitest';
import type { GradingBody } from '../../packages/contracts/src/index.js';
import { type AcceptedJob, accountFor, submit } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, SHORT_LOCK_MS, startStand } from './stand/fault-stand.js';

// Whatever dies while a webhook grades answers, none of them gets a second reward, and the adapter is that of an undisturbed job.

const undisturbed = inject('undisturbed');
let stand: FaultStand;
let api: Part;
let worker: Part;
let workers = 0;
let grader: Server;
let url: string;
/** The requests that it got: the answers of each, and the id that is the same for the same answers. */
let requests: { id: string; step: number | null; answers: string }[];
/** Holds the rewards of the first request for this step until {@link open}. */
let heldStep: number | null;
let open: () => void;

const startNext = async () => {
  worker = await stand.startWorker(`worker-${++workers}`);
};

beforeAll(async () => {
  const folders = { modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') };
  const env = { WEBHOOK_SECRET: `whsec_${'A'.repeat(43)}=`, WEBHOOK_ALLOW_PRIVATE: 'true' };
  stand = await startStand({ ...folders, jobLockMs: SHORT_LOCK_MS, env });
  await Promise.all([stand.startRegistry(), startNext()]);
  api = await stand.startApi();
  grader = createServer((message, response) => {
    void streamText(message).then((text) => {
      const { step, items } = (JSON.parse(text) as GradingBody).data;
      const id = String(message.headers['webhook-id']);
      requests.push({ id, step, answers: JSON.stringify(items) });
      const rewards = items.map(({ completion, reference }) => (completion.includes(String(reference)) ? 1 : 0));
      const answer = (to: ServerResponse) => to.writeHead(200).end(JSON.stringify({ rewards }));
      if (step !== heldStep) return answer(response);
      heldStep = null;
      open = () => answer(response);
    });
  });
  grader.listen(0, '127.0.0.1');
  await once(grader, 'listening');
  url = `http://127.0.0.1:${(grader.address() as AddressInfo).port}/`;
});
beforeEach(() => {
  requests = [];
  heldStep = 5;
  open = () => {
    throw new Error('no request is held');
  };
});
afterEach(async () => {
  if (!worker.running) await startNext();
  if (!api.running) api = await stand.startApi();
});
afterAll(async () => {
  await stand?.close();
  grader?.closeAllConnections();
  grader?.close();
});

const submitted = () => submit(stand, 'rewards', async () => {}, { type: 'webhook', url });
const isHeld = () => eventually('a request is held', () => heldStep === null);

/** @param repeated steps whose answers may be asked about twice: nobody knows whether the first request was answered */
async function endsWell(accepted: AcceptedJob, repeated: number[] = []): Promise<void> {
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job).toMatchObject({ status: 'succeeded' });
  for (const step of new Set(requests.map((one) => one.step))) {
    const ofStep = requests.filter((one) => one.step === step);
    expect(new Set(ofStep.map(({ answers }) => answers)).size, `different answers of step ${step}`).toBe(1);
    expect(new Set(ofStep.map(({ id }) => id)).size).toBe(1);
    const isRepeated = step !== null && repeated.includes(step);
    expect(ofStep.length, `requests for step ${step}`).toBe(isRepeated ? 2 : 1);
  }
}

test('SIGKILL of the trainer while it waits for rewards', async () => {
  const accepted = await submitted();
  await isHeld();
  process.kill((await stand.trainer()).pid, 'SIGKILL');
  await eventually('its job begins again', async () => (await stand.client.getJob(accepted.id)).attempts === 2);
  open();
  await endsWell(accepted);
});

test('SIGKILL of the worker while it waits, and rewards that come before the next one asks', async () => {
  const accepted = await submitted();
  await isHeld();
  worker.signal('SIGKILL');
  await worker.exited;
  open();
  await startNext();
  await endsWell(accepted);
});

test('SIGKILL of the api while the webhook grades', async () => {
  const accepted = await submitted();
  await isHeld();
  api.signal('SIGKILL');
  await api.exited;
  api = await stand.startApi();
  // Its claim runs out as time passes, which the test does not wait for.
  const redis = new Redis(stand.redis.url);
  const [due] = await redis.keys('*gradings:due');
  for (const id of await redis.zrange(due!, '0', '-1')) await redis.zadd(due!, 0, id);
  redis.disconnect();
  await endsWell(accepted, [5]);
});

test('SIGKILL of the trainer after the rewards have come, before they are kept', async () => {
  heldStep = -1;
  const { struck } = await stand.plan({
    program: 'trainer/child-main.js',
    call: 'rename',
    when: 'before',
    path: '/checkpoints/rollout\\.json$',
    skip: 3,
  });
  const accepted = await submitted();
  await struck();
  await endsWell(accepted);
});
