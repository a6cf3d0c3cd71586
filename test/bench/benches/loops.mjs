import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { model, quick, ROOT, say } from '../harness.mjs';
import { startBenchStack } from '../parts/around.mjs';
import { percent, table } from '../tables.mjs';

/**
 * @typedef {Awaited<ReturnType<typeof startBenchStack>>['client']} Client
 * @typedef {import('../../../packages/client/dist/index.js').SessionRow} SessionRow
 */

const ROWS = 8;
/** Tokens of a row that predict one. */
const LENGTH = 256;
const STEPS = quick ? 4 : 10;
const TURNS = quick ? 1 : 3;
const MODULES = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head'];

/** Training through the HTTP API, call by call and as a job, by turns, and two of each at the same time. */
export async function loop() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-loop-'));
  const stack = await startBenchStack({ root: ROOT, folder, models: [model] });
  try {
    const { client } = stack;
    const { id: dataset } = await client.uploadDataset({ text: longRows() });
    const rows = await rowsOf(client, dataset);
    /** @type {Record<string, () => Promise<number>>} */
    const ways = {
      loop: async () => loopRate(client, rows),
      job: async () => jobRate(client, dataset),
      'two loops': async () => sum(await Promise.all([loopRate(client, rows), loopRate(client, rows)])),
      'two jobs': async () => sum(await Promise.all([jobRate(client, dataset), jobRate(client, dataset)])),
    };
    /** @type {Record<string, number[]>} */
    const rates = {};
    for (let turn = 0; turn < TURNS; turn++) {
      const names = Object.keys(ways);
      for (const name of turn % 2 === 0 ? names : names.toReversed()) {
        rates[name] = [...(rates[name] ?? []), (await ways[name]?.()) ?? 0];
      }
    }
    const best = Object.fromEntries(Object.entries(rates).map(([name, all]) => [name, Math.max(...all)]));
    say(
      `Steps of ${ROWS * LENGTH} tokens through the HTTP API, call by call and as a job: tokens/s, the best of ${TURNS}.`,
    );
    say(
      table(
        ['', 'call by call', 'job', 'share'],
        [
          ['one', best.loop, best.job],
          ['two at once, together', best['two loops'], best['two jobs']],
        ].map(([name, own = 0, job = 0]) => [
          String(name),
          Number(own).toFixed(0),
          Number(job).toFixed(0),
          percent(Number(own) / Number(job)),
        ]),
      ),
    );
    return { rates };
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

const sum = (/** @type {number[]} */ rates) => rates.reduce((all, one) => all + one, 0);

/** Rows that are longer than what is trained of them. */
function longRows() {
  return Array.from({ length: ROWS }, (_, row) => {
    const words = Array.from(
      { length: LENGTH + 1 },
      (_word, i) => ['red', 'green', 'blue', 'black'][(row * 7 + i * i) % 4],
    );
    return `${JSON.stringify({ text: words.join(' ') })}\n`;
  }).join('');
}

/** @param {Client} client @param {string} dataset @returns {Promise<SessionRow[]>} */
async function rowsOf(client, dataset) {
  const { data } = await client.datasetRows(dataset, { base_model: path.basename(model) });
  return data.map(({ tokens }) => {
    const ids = (tokens?.data ?? []).slice(0, LENGTH + 1).map(({ id }) => id);
    const weights = new Float32Array(LENGTH).fill(1 / (ROWS * LENGTH));
    return { tokens: ids.slice(0, -1), targets: ids.slice(1), inputs: { weights } };
  });
}

/**
 * The rate after the first step. Each step waits for the one before, as a loop that logs its losses does.
 *
 * @param {Client} client @param {SessionRow[]} rows
 */
async function loopRate(client, rows) {
  const session = await client.createTrainingSession({ base_model: path.basename(model), rank: 8 });
  try {
    let began = 0;
    for (let step = 0; step < STEPS; step++) {
      await Promise.all([session.forwardBackward(rows), session.optimStep()]);
      if (step === 0) began = performance.now();
    }
    return rateOf(performance.now() - began);
  } finally {
    await session.close();
  }
}

/** @param {Client} client @param {string} dataset */
async function jobRate(client, dataset) {
  const { id } = await client.createJob({
    base_model: path.basename(model),
    dataset,
    lora: { r: 8, alpha: 32, target_modules: MODULES },
    training: {
      ...{ max_steps: STEPS, batch_size: ROWS, max_seq_length: LENGTH + 1, on_overflow: 'truncate' },
      ...{ checkpoint_every_steps: null, seed: Math.floor(1e6 * Math.random()) },
    },
  });
  /** @type {Map<number, number>} */
  const ends = new Map();
  for await (const event of client.events(id)) {
    if (event.type === 'step-finished') ends.set(event.data.step, Date.parse(event.created_at));
  }
  const first = Math.min(...ends.keys());
  return (rateOf((ends.get(STEPS) ?? 0) - (ends.get(first) ?? 0)) * (STEPS - first)) / (STEPS - 1);
}

/** @param {number} ms of all steps but the first */
const rateOf = (ms) => ((STEPS - 1) * ROWS * LENGTH) / (ms / 1e3);
