import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { say } from '../measured.mjs';
import { model, ROOT } from '../options.mjs';
import { fairness as fairnessOfKeys } from '../parts/fairness.mjs';
import { table } from '../tables.mjs';

/** Completion times of the jobs of two keys that send at the same time. */
export async function fairness() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fairness-'));
  try {
    const result = await fairnessOfKeys({ root: ROOT, folder, model });
    const seconds = (/** @type {number[]} */ ...all) => all.map((one) => one.toFixed(1)).join(', ');
    const times = (/** @type {number} */ one) => `${(one / result.alone).toFixed(2)} ×`;
    const last = (/** @type {number[]} */ all) => Math.max(...all);
    const { alone, otherKey, sameKey, manyOfFirst, fewOfSecond } = result;
    say(
      'Jobs of 10 steps through the HTTP API, beside one of 10,000 steps of the first key: seconds until the adapter.',
    );
    say(
      table(
        ['jobs', 'seconds', 'the last of them'],
        [
          ['one alone', seconds(alone), ''],
          ['one of the second key', seconds(otherKey), times(otherKey)],
          ['one of the first key', seconds(sameKey), times(sameKey)],
          ['2 of the second key, right after the 10', seconds(...fewOfSecond), times(last(fewOfSecond))],
          ['10 of the first key', seconds(...manyOfFirst), times(last(manyOfFirst))],
        ],
      ),
    );
    say(`The long job had ${result.longSteps} steps by then.\n`);
    return result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
