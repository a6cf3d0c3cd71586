import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measured, model, quick, ROOT, repeats, say } from '../harness.mjs';
import { startBenchStack, timedJob } from '../parts/around.mjs';
import { table } from '../tables.mjs';

/** Variants of the demo's job: one after the other, as a sweep, and by halving. */
export async function sweeps() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-sweeps-'));
  try {
    const rows = path.join(ROOT, 'examples/dates/train.jsonl');
    const result = await sweepsOfVariants({ root: ROOT, folder, model, rows, steps: quick ? 16 : 72 });
    const passes = [];
    for (const jobs of [1, 2, 8]) {
      passes.push(await measured('sharedPass', { precision: 'bfloat16', jobs, rows: 8, length: 43, repeats }));
    }
    const { steps, alone, answered, together, halved, halvedSteps } = result;
    const inAll = alone.reduce((sum, one) => sum + one, 0);
    const line = (/** @type {string} */ name, /** @type {number} */ ofAll, /** @type {number} */ seconds) => [
      name,
      ofAll,
      seconds.toFixed(1),
      `${(inAll / seconds).toFixed(2)} ×`,
    ];
    say(
      `${alone.length} variants of the demo's job, ${steps} steps each, through the HTTP API: seconds until the last adapter.`,
    );
    say(
      table(
        ['', 'steps', 'seconds', 'faster'],
        [
          line('one after the other', alone.length * steps, inAll),
          line('a sweep of all', alone.length * steps, together),
          line('the same by halving', halvedSteps, halved),
        ],
      ),
    );
    say(
      `Alone they took ${alone.map((one) => one.toFixed(1)).join(', ')} s. POST /sweeps answered after ${answered.toFixed(2)} s.\n`,
    );
    say('A pass of several such jobs, of 344 tokens each.');
    const perToken = (/** @type {number} */ seconds, /** @type {number} */ jobs) =>
      `${((1e3 * seconds) / (jobs * 344)).toFixed(2)} ms`;
    say(
      table(
        ['jobs', 'tokens/s', 'a token', 'of it products with frozen weights'],
        passes.map(({ jobs, tokens_per_second: rate, seconds, seconds_in_products: inProducts }) => [
          jobs,
          rate.toFixed(0),
          perToken(seconds, jobs),
          perToken(inProducts, jobs),
        ]),
      ),
    );
    return { ...result, passes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Variants of the demo's job through the HTTP API of a whole stack, in seconds from the first POST to the last adapter.
 *
 * @typedef {object} SweepsResult
 * @property {number} steps of each variant
 * @property {number[]} alone each variant as a job by itself, one after the other: half of them before the sweeps, half after them
 * @property {number} answered a sweep of all of them: until `POST /sweeps` answers
 * @property {number} together until it has ended
 * @property {number} halved the same sweep by halving
 * @property {number} halvedSteps all steps of its variants
 */

const RATES = [3e-4, 1e-3, 2e-3, 4e-3];
const RANKS = [8, 16];
const VARIANTS = RATES.flatMap((rate) => RANKS.map((rank) => ({ rate, rank })));

/**
 * @param {{ root: string, folder: string, model: string, rows: string, steps: number }} options `folder`: an empty one; `rows`: those of
 *   the demo; `steps` of a variant: a multiple of 8
 * @returns {Promise<SweepsResult>}
 */
async function sweepsOfVariants({ root, folder, model, rows, steps }) {
  const { client, stop } = await startBenchStack({ root, folder, models: [model] });
  try {
    const dataset = await client.uploadDataset({ text: await readFile(rows, 'utf8') });
    // As in examples/dates/demo.mjs, without rate and rank.
    const job = {
      base_model: path.basename(model),
      dataset: dataset.id,
      validation: { split: 0.05 },
      lora: { target_modules: /** @type {const} */ ('all-linear') },
      training: { max_steps: steps, batch_size: 8, warmup_ratio: 0.05, max_seq_length: 128 },
    };
    const ofVariant = (/** @type {{ rate: number, rank: number }} */ { rate, rank }) => ({
      ...job,
      lora: { ...job.lora, r: rank },
      training: { ...job.training, learning_rate: rate },
    });
    // The base model is loaded, and its tokens are stored.
    await timedJob(client, { ...job, training: { ...job.training, max_steps: 1 } });

    /** @type {number[]} */
    const alone = [];
    /** @type {(number | null)[]} */
    const losses = [];
    const trainAlone = async (/** @type {typeof VARIANTS} */ variants) => {
      for (const variant of variants) {
        const { adapter, times } = await timedJob(client, ofVariant(variant));
        alone.push(times.whole);
        const { origin } = await client.manifest(adapter);
        losses.push(origin.kind === 'trained' ? (origin.result.evaluation_after?.loss ?? null) : null);
      }
    };
    const space = { 'training.learning_rate': { values: RATES }, 'lora.r': { values: RANKS } };
    const half = VARIANTS.length / 2;
    await trainAlone(VARIANTS.slice(0, half));
    const grid = await timedSweep(client, { job, space });
    const halving = await timedSweep(client, { job, space, halving: { first_steps: steps / VARIANTS.length } });
    await trainAlone(VARIANTS.slice(half));
    for (const [index, { metric }] of grid.sweep.variants.entries()) {
      if (metric === losses[index]) continue;
      throw new Error(`variant ${index + 1} has the loss ${metric} in a sweep, and ${losses[index]} alone`);
    }
    const halvedSteps = halving.sweep.variants.reduce((sum, { step }) => sum + (step ?? 0), 0);
    const { answered, ended: together } = grid;
    return { steps, alone, answered, together, halved: halving.ended, halvedSteps };
  } finally {
    await stop();
  }
}

/**
 * @param {Awaited<ReturnType<typeof startBenchStack>>['client']} client
 * @param {import('../../../packages/client/dist/index.js').SweepRequest} request
 */
async function timedSweep(client, request) {
  const sent = Date.now();
  const { id } = await client.createSweep(request);
  const answered = (Date.now() - sent) / 1e3;
  const sweep = await client.waitForSweep(id);
  if (sweep.status !== 'succeeded') throw new Error(`the sweep ${sweep.status}: ${JSON.stringify(sweep.variants)}`);
  return { sweep, answered, ended: (Date.parse(sweep.ended_at ?? '') - sent) / 1e3 };
}
