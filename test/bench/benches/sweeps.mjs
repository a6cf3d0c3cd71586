import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measured, say } from '../measured.mjs';
import { model, quick, ROOT, repeats } from '../options.mjs';
import { sweeps as sweepsOfVariants } from '../parts/sweeps.mjs';
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
