import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import type { ChatCall } from '../../packages/client/src/index.js';
import type { Job, MachineProfile } from '../../packages/contracts/src/index.js';
import { type AcceptedJob, accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, SHORT_LOCK_MS, startStand } from './stand/fault-stand.js';
import { BASE_MODEL, DATASET_TEXT, requestOf } from './stand/jobs-of-the-suite.js';
import { isAlive } from './stand/processes.js';
import { openSmallDisk } from './stand/small-disk.js';

// Several jobs in one trainer: what happens to one of them, or to the trainer, costs the others nothing, and each ends with
// the bytes that it has alone.

const undisturbed = inject('undisturbed');
const folders = { modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') };
/** Enough of a silence that a busy machine does not cause it. */
const SILENCE_MS = 12_000;
let stand: FaultStand;

const QUESTION: ChatCall = {
  model: BASE_MODEL,
  messages: [{ role: 'user', content: 'What is 2?' }],
  max_tokens: 40,
  temperature: 0,
};

/** A checkpoint in the middle of a long job. */
const HELD_STEP = 100;

/** Jobs that all train at the same time. However fast they do, none ends before {@link released}. */
async function together(count: number): Promise<AcceptedJob[]> {
  await stand.holdAt(HELD_STEP);
  const accepted: AcceptedJob[] = [];
  for (let i = 0; i < count; i++) accepted.push(await submit(stand, 'long'));
  await Promise.all(accepted.map((job) => when(stand, job, 'it trains', isTraining)));
  return accepted;
}

/** The jobs as they end, now that nothing holds them. */
async function released(accepted: AcceptedJob[]): Promise<Job[]> {
  await stand.release();
  return await accountFor(stand, accepted, undisturbed);
}

/** A conversation that is continued until it is ended, whatever becomes of the service. */
function converse(): { end: () => Promise<{ answers: Set<string>; failures: unknown[] }> } {
  let isOver = false;
  const answers = new Set<string>();
  const failures: unknown[] = [];
  const talk = async () => {
    while (!isOver) {
      let text = '';
      try {
        for await (const { choices } of stand.client.streamChat(QUESTION)) text += choices[0]?.delta.content ?? '';
        answers.add(text);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  const talking = talk();
  return {
    async end() {
      isOver = true;
      await talking;
      return { answers, failures };
    },
  };
}

const statusesOf = (jobs: Job[]) => jobs.map(({ status }) => status);
const succeeded = (count: number) => Array(count).fill('succeeded');

describe('a worker with several jobs', () => {
  let worker: Part;
  let workers = 0;
  const startNext = async () => {
    worker = await stand.startWorker(`worker-${++workers}`);
  };

  beforeAll(async () => {
    const env = { TRAINER_SILENCE_MS: String(SILENCE_MS), SHUTDOWN_TIMEOUT_MS: '120000' };
    stand = await startStand({ ...folders, jobLockMs: SHORT_LOCK_MS, env });
    await Promise.all([stand.startRegistry(), startNext()]);
    await stand.startApi();
  });
  beforeEach(async () => {
    if (!worker.running) await startNext();
  });
  afterAll(() => stand?.close());

  test.each(['SIGKILL', 'SIGSEGV'] as const)(
    'a worker with several jobs whose trainer gets %s: no job loses an attempt',
    async (signal) => {
      const accepted = await together(4);
      process.kill((await stand.trainer()).pid, signal);
      const jobs = await released(accepted);
      expect(statusesOf(jobs)).toEqual(succeeded(4));
      expect(jobs.map(({ attempts }) => attempts)).toEqual([1, 1, 1, 1]);
    },
  );

  test('a worker with several jobs whose trainer hangs: no job loses an attempt', async () => {
    const accepted = await together(3);
    const { pid } = await stand.trainer();
    process.kill(pid, 'SIGSTOP');
    const jobs = await released(accepted);
    expect(statusesOf(jobs)).toEqual(succeeded(3));
    expect(jobs.map(({ attempts }) => attempts)).toEqual([1, 1, 1]);
    expect(await isAlive(pid)).toBe(false);
  });

  test('a worker with several jobs of which one crashes the trainer each time: it alone fails', async () => {
    const others = await together(3);
    const culprit = await submit(stand, 'long');
    const path = `/jobs/${culprit.id}/checkpoints/`;
    const { struck } = await stand.plan({
      program: 'trainer/child-main.js',
      call: 'write',
      when: 'after',
      path,
      signal: 'SIGABRT',
      isRepeated: true,
    });
    await struck();
    const jobs = await released([...others, culprit]);
    expect(statusesOf(jobs)).toEqual([...succeeded(3), 'failed']);
    expect(jobs.map(({ attempts }) => attempts)).toEqual([1, 1, 1, 3]);
    expect(jobs[3]?.error?.code).toBe('trainer_crashed');
  });

  test.each(['trainer', 'worker'] as const)(
    'a worker with several jobs and two conversations, and the %s is killed',
    async (victim) => {
      const accepted = await together(4);
      const conversations = [converse(), converse()];
      await eventually('both were answered', async () => await stand.client.chat(QUESTION).catch(() => undefined));
      if (victim === 'trainer') process.kill((await stand.trainer()).pid, 'SIGKILL');
      else worker.signal('SIGKILL');
      if (victim === 'worker') {
        await worker.exited;
        await startNext();
      }
      const jobs = await released(accepted);
      expect(statusesOf(jobs)).toEqual(succeeded(4));
      if (victim === 'trainer') expect(jobs.map(({ attempts }) => attempts)).toEqual([1, 1, 1, 1]);
      const [one, other] = await Promise.all(conversations.map(({ end }) => end()));
      // Greedy, and the same beside any other jobs. The next worker has no job at first, and then loads bfloat16.
      const answers = new Set([...one!.answers, ...other!.answers]);
      expect([...answers].length).toBeLessThanOrEqual(victim === 'trainer' ? 1 : 2);
      // What was cut off, or could not be answered meanwhile, says that it can be asked again.
      for (const failure of [...one!.failures, ...other!.failures]) {
        expect(failure).toMatchObject({ code: expect.stringMatching(/^(service_unavailable|too_many_requests)$/) });
      }
      const { choices } = await stand.client.chat(QUESTION);
      expect([...answers]).toContain(choices[0]?.message.content);
    },
  );

  test('a worker with several jobs that is killed, and the next one, too: the third continues them all', async () => {
    const accepted = await together(4);
    for (let death = 1; death <= 2; death++) {
      const { pid } = await stand.trainer();
      worker.signal('SIGKILL');
      await worker.exited;
      await eventually('its trainer ends, too', async () => !(await isAlive(pid)));
      await startNext();
      if (death === 2) break;
      const isNext = (job: Job) => job.attempts > death && isTraining(job);
      await Promise.all(accepted.map((job) => when(stand, job, 'the next worker trains it', isNext)));
    }
    const jobs = await released(accepted);
    expect(statusesOf(jobs)).toEqual(succeeded(4));
  });

  test('a worker with several jobs that gets SIGTERM: each job is released with a checkpoint, in time', async () => {
    const accepted = await together(4);
    worker.signal('SIGTERM');
    expect(await worker.exited).toBe('exited with 0');
    for (const { id } of accepted) {
      expect((await stand.client.getJob(id)).status).toBe('queued');
      expect((await readdir(path.join(stand.dataDir, 'jobs', id, 'checkpoints'))).length).toBeGreaterThan(0);
    }
    await startNext();
    const jobs = await released(accepted);
    expect(statusesOf(jobs)).toEqual(succeeded(4));
    expect(jobs.map(({ attempts }) => attempts)).toEqual([2, 2, 2, 2]);
  });

  test('a worker with several jobs of which one is cancelled: the others go on', async () => {
    const accepted = await together(4);
    await stand.client.cancelJob(accepted[1]!.id);
    const jobs = await released(accepted);
    expect(statusesOf(jobs)).toEqual(['succeeded', 'cancelled', 'succeeded', 'succeeded']);
    expect(jobs.map(({ attempts }) => attempts)).toEqual([1, 1, 1, 1]);
  });
});

test('a job that does not fit into memory beside three waits until one has ended, and costs them nothing', async () => {
  stand = await startStand(folders);
  try {
    const [, first] = await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
    await stand.startApi();
    const dataset = await stand.client.uploadDataset({ text: DATASET_TEXT });
    const { estimate } = await stand.client.dryRun(requestOf('long', dataset.id));
    first.signal('SIGTERM');
    await first.exited;
    // As if the machine had memory for three and a half of them.
    const { peak_memory_bytes: alone, added_memory_bytes: added } = estimate!;
    await changeMachine(Math.ceil((alone + 2.5 * added) / 0.95));
    const second = await stand.startWorker('two');
    const three = await together(3);
    const fourth = await submit(stand, 'short');
    await eventually('it waits', () =>
      second.messages.includes('the job waits: it cannot share the trainer with the jobs that run'),
    );
    expect(await Promise.all(three.map(async ({ id }) => (await stand.client.getJob(id)).status))).toEqual(
      Array(3).fill('running'),
    );
    const jobs = await released([...three, fourth]);
    expect(statusesOf(jobs)).toEqual(succeeded(4));
    expect(jobs.slice(0, 3).map(({ attempts }) => attempts)).toEqual([1, 1, 1]);
  } finally {
    await stand.close();
  }
});

const disk = await openSmallDisk();
if (disk === null) console.log('several-jobs: a full disk is skipped, since this system does not allow mounting one');

test.skipIf(disk === null)('a disk that is too full for one of them fails that one alone', async () => {
  stand = await startStand({ ...folders, dataDir: path.join(disk!.folder, 'data') });
  try {
    await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
    await stand.startApi();
    const others = await together(3);
    const { id: dataset } = await stand.client.uploadDataset({ text: DATASET_TEXT });
    const request = requestOf('long', dataset);
    // Its checkpoints are larger than what is left, those of the others are much smaller.
    await disk!.fill(500 * 1024);
    const { id } = await stand.client.createJob({
      ...request,
      lora: { r: 64, alpha: 8, target_modules: 'all-linear' },
    });
    // While its incomplete file fills the disk, a checkpoint of another may fail, too; that one is tried again.
    const jobs = await released([...others, { id, kind: 'long' }]);
    expect(statusesOf(jobs)).toEqual([...succeeded(3), 'failed']);
    expect(jobs[3]?.error?.code).toBe('storage_full');
  } finally {
    await disk!.free();
    await stand.close();
    await disk!.close();
  }
});

/** The next worker takes the machine to have so much memory. */
async function changeMachine(memory_bytes: number): Promise<void> {
  const folder = path.join(stand.dataDir, 'machines');
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name);
    const profile = JSON.parse(await readFile(file, 'utf8')) as MachineProfile;
    await writeFile(file, JSON.stringify({ ...profile, memory_bytes }));
  }
}
