import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { trainerEnvironment } from '../../../services/worker/dist/trainer/trainer-program.js';
import { checkouts, childAnswer, model, quick, say } from '../harness.mjs';
import { startBenchStack, timedJob } from '../parts/around.mjs';
import { gigabytes, table } from '../tables.mjs';

/** Several jobs on one base model, of this checkout and, with --before, of another one, by turns. */
export async function jobs() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'lorasmith-jobs-'));
  try {
    const roots = checkouts();
    const turns = quick ? 1 : 3;
    const together = await trainedTogether({ roots, model, folder: path.join(scratch, 'trained'), turns });
    /** @type {Record<string, WholeJobs[]>} */
    const whole = Object.fromEntries(Object.keys(roots).map((name) => [name, []]));
    for (let turn = 0; turn < (quick ? 1 : 2); turn++) {
      for (const [name, root] of Object.entries(roots)) {
        const folder = path.join(scratch, 'stack');
        whole[name]?.push(await wholeJobs({ root, folder, model }));
        await rm(folder, { recursive: true });
      }
    }
    sayJobs(together, whole);
    return { together, whole };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/**
 * @param {Awaited<ReturnType<typeof trainedTogether>>} together
 * @param {Record<string, WholeJobs[]>} whole
 */
function sayJobs(together, whole) {
  const middle = (/** @type {number[]} */ numbers) =>
    [...numbers].sort((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)] ?? Number.NaN;
  say('Training steps of several jobs on one base model in bfloat16, tokens/s: medians.');
  say(
    table(
      ['jobs × tokens of a step', 'before', 'now', 'ratio', 'a step of all, now', 'peak memory, before', 'now'],
      together.map(({ name, measured: { before, now = [] } }) => {
        const rate = (/** @type {typeof now | undefined} */ of) => of && middle(of.map((one) => one.tokensPerSecond));
        const peak = (/** @type {typeof now | undefined} */ of) => of && Math.max(...of.map((one) => one.peakBytes));
        const [rateBefore, rateNow = Number.NaN] = [rate(before), rate(now)];
        const [peakBefore, peakNow = Number.NaN] = [peak(before), peak(now)];
        return [
          name,
          rateBefore?.toFixed(0) ?? 'not run',
          rateNow.toFixed(0),
          rateBefore === undefined ? '' : `${(rateNow / rateBefore).toFixed(2)} ×`,
          `${(1e3 * middle(now.map((one) => one.stepSeconds))).toFixed(0)} ms`,
          peakBefore === undefined ? '' : gigabytes(peakBefore),
          gigabytes(peakNow),
        ];
      }),
    ),
  );
  const { before, now = [] } = whole;
  /** @type {[string, (run: WholeJobs) => number][]} */
  const lines = [
    ['8 jobs of 20 steps sent at once, until the last adapter', (run) => run.all],
    ['the first of them to end', (run) => Math.min(...run.each)],
    ['a job of 10 steps alone', (run) => run.shortAlone],
    ['the same beside one of 10,000 steps', (run) => run.shortBeside],
    ['its first step, from POST /jobs', (run) => run.joinedFirstStep],
  ];
  say('Whole jobs through the HTTP API, in seconds: the better run.');
  say(
    table(
      ['', 'before', 'now'],
      lines.map(([name, of]) => [
        name,
        before === undefined ? 'not run' : shown(Math.min(...before.map(of))),
        shown(Math.min(...now.map(of))),
      ]),
    ),
  );
}

/** @param {number} seconds */
function shown(seconds) {
  return Number.isFinite(seconds) ? seconds.toFixed(2) : 'it waits for the long one';
}

/**
 * @typedef {import('../train-jobs.mjs').Work} Work
 * @typedef {import('../train-jobs.mjs').Measured} Measured
 */

const QV = ['q_proj', 'v_proj'];
const RANKS = [4, 8, 16];

/** @type {(Work & { name: string })[]} */
const TOGETHER = [
  { name: '8 × 128, q and v', jobs: 8, tokens: 128, targets: QV, ranks: RANKS, steps: 6 },
  { name: '8 × 128, all linear', jobs: 8, tokens: 128, targets: 'all-linear', ranks: RANKS, steps: 6 },
  { name: '16 × 64, q and v', jobs: 16, tokens: 64, targets: QV, ranks: RANKS, steps: 6 },
  { name: '4 × 512, q and v', jobs: 4, tokens: 512, targets: QV, ranks: RANKS, steps: 5 },
  { name: 'one job, 128, q and v', jobs: 1, tokens: 128, targets: QV, ranks: [8], steps: 16 },
  { name: 'one job, 128, all linear', jobs: 1, tokens: 128, targets: 'all-linear', ranks: [8], steps: 16 },
  { name: 'one job, 1024, q and v', jobs: 1, tokens: 1024, targets: QV, ranks: [8], steps: 6 },
];

/**
 * The training steps of several jobs, in a process for each checkout. Each work is measured in all of them by turns.
 *
 * @param {{ roots: Record<string, string>, model: string, folder: string, turns: number, works?: (Work & { name: string })[] }} options
 * @returns {Promise<{ name: string, work: Work, measured: Record<string, Measured[]> }[]>}
 */
export async function trainedTogether({ roots, model, folder, turns, works = TOGETHER }) {
  const processes = [];
  for (const [name, root] of Object.entries(roots)) {
    const child = fork(path.resolve(import.meta.dirname, '../train-jobs.mjs'), [root, model, path.join(folder, name)], {
      env: trainerEnvironment(process.env),
      serialization: 'advanced',
    });
    await answerOf(child);
    processes.push({ name, child });
  }
  try {
    const results = [];
    for (const { name, ...work } of works) {
      /** @type {Record<string, Measured[]>} */
      const measured = Object.fromEntries(processes.map((one) => [one.name, []]));
      for (let turn = 0; turn < turns; turn++) {
        for (const { name: checkout, child } of processes) {
          child.send(work);
          measured[checkout]?.push(await answerOf(child));
        }
      }
      results.push({ name, work, measured });
    }
    return results;
  } finally {
    for (const { child } of processes) child.kill();
  }
}

/** @param {import('node:child_process').ChildProcess} child */
const answerOf = (child) => childAnswer(child, 'the process that trains');

/**
 * Whole jobs through the HTTP API of a stack of its own, sent at once: from the first POST to the last adapter.
 *
 * @typedef {object} WholeJobs in seconds
 * @property {number} all
 * @property {number[]} each job, from its POST to its adapter
 * @property {number} joinedFirstStep a job sent beside one that trains: from POST to the end of its first step
 * @property {number} shortAlone a job of ten steps
 * @property {number} shortBeside the same, beside one of ten thousand
 *
 * @param {{ root: string, folder: string, model: string }} options
 * @returns {Promise<WholeJobs>}
 */
async function wholeJobs({ root, folder, model }) {
  const { client, stop } = await startBenchStack({ root, folder, models: [model] });
  try {
    const rows = await client.uploadDataset({ text: chatRows(400) });
    const job = (/** @type {number} */ seed, /** @type {number} */ steps) => ({
      base_model: path.basename(model),
      dataset: rows.id,
      training: { batch_size: 2, max_steps: steps, seed, checkpoint_every_steps: null },
    });
    // The base model is loaded, and its tokens are stored.
    await timedJob(client, job(99, 1));
    const began = performance.now();
    const jobs = await Promise.all(Array.from({ length: 8 }, (_, seed) => timedJob(client, job(seed, 20))));
    const all = (performance.now() - began) / 1e3;

    const alone = await timedJob(client, job(1, 10));
    const long = await client.createJob(job(2, 10_000));
    for await (const event of client.events(long.id)) if (event.type === 'step-finished') break;
    // Where jobs train one after the other, the short one waits for the long one: it is not waited for.
    const beside = await Promise.race([
      timedJob(client, job(1, 10)).catch(() => null),
      wait(4 * 1e3 * alone.times.whole, null),
    ]);
    await client.cancelJob(long.id);
    return {
      all,
      each: jobs.map(({ times }) => times.whole),
      joinedFirstStep: beside?.times.firstStep ?? Number.POSITIVE_INFINITY,
      shortAlone: alone.times.whole,
      shortBeside: beside?.times.whole ?? Number.POSITIVE_INFINITY,
    };
  } finally {
    await stop();
  }
}

/**
 * Rows of about 55 tokens.
 *
 * @param {number} count
 */
function chatRows(count) {
  return Array.from({ length: count }, (_, row) => {
    const words = Array.from({ length: 24 }, (_word, i) => ['red', 'green', 'blue', 'black'][(row * 7 + i * i) % 4]);
    return `${JSON.stringify({ prompt: words.join(' '), completion: ` ${words.reverse().join(' ')}` })}\n`;
  }).join('');
}
