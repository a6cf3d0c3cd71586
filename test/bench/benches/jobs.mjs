import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { say } from '../measured.mjs';
import { checkouts, model, quick } from '../options.mjs';
import { trainedTogether, wholeJobs } from '../parts/jobs.mjs';
import { gigabytes, table } from '../tables.mjs';

/** Several jobs on one base model, of this checkout and, with --before, of another one, by turns. */
export async function jobs() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'lorasmith-jobs-'));
  try {
    const roots = checkouts();
    const turns = quick ? 1 : 3;
    const together = await trainedTogether({ roots, model, folder: path.join(scratch, 'trained'), turns });
    /** @type {Record<string, import('../parts/jobs.mjs').WholeJobs[]>} */
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
 * @param {Record<string, import('../parts/jobs.mjs').WholeJobs[]>} whole
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
  /** @type {[string, (run: import('../parts/jobs.mjs').WholeJobs) => number][]} */
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
