import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { say } from '../measured.mjs';
import { model, ROOT } from '../options.mjs';
import { createBenchKey, startBenchStack, timedJob } from '../parts/around.mjs';
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

/**
 * Jobs of two keys through the HTTP API of a whole stack, in seconds from `POST /jobs` to the published adapter. While those after
 * `alone` run, the first key trains a job of 10,000 steps.
 *
 * @typedef {object} FairnessResult
 * @property {number} alone a job of 10 steps, with nothing else
 * @property {number} otherKey the same, of another key
 * @property {number} sameKey the same, of the key of the long job
 * @property {number[]} manyOfFirst 10 such jobs of the first key, sent at once: more than the worker trains at the same time
 * @property {number[]} fewOfSecond 2 of the second key, sent right after them
 * @property {number} longSteps of the long job until then
 */

const STEPS = 10;

/**
 * @param {{ root: string, folder: string, model: string }} options `folder`: an empty one
 * @returns {Promise<FairnessResult>}
 */
async function fairnessOfKeys({ root, folder, model }) {
  const stack = await startBenchStack({ root, folder, models: [model] });
  try {
    const { createClient } = await import(path.join(root, 'packages/client/dist/index.js'));
    const sender = async (/** @type {string} */ name) => {
      const { token } = await createBenchKey({ root, dataDir: path.join(folder, 'data') }, name);
      const client = createClient({ baseUrl: stack.apiUrl, apiKey: token });
      const dataset = await client.uploadDataset({ text: rowsOf(name) });
      const request = (/** @type {number} */ steps, /** @type {number} */ seed) => ({
        base_model: path.basename(model),
        dataset: dataset.id,
        training: { batch_size: 2, max_steps: steps, seed, checkpoint_every_steps: null, on_overflow: 'truncate' },
      });
      const small = async (/** @type {number} */ seed) => (await timedJob(client, request(STEPS, seed))).times.whole;
      return { client, request, small };
    };
    const [first, second] = [await sender('first'), await sender('second')];
    // The base model is loaded, and the tokens of both are stored.
    await first.small(1);
    await second.small(1);
    const alone = await second.small(2);

    const long = await first.client.createJob(first.request(10_000, 3));
    for await (const event of first.client.events(long.id)) if (event.type === 'step-finished') break;
    const otherKey = await second.small(4);
    const sameKey = await first.small(5);
    const many = Promise.all(Array.from({ length: 10 }, (_, seed) => first.small(10 + seed)));
    const few = Promise.all([second.small(30), second.small(31)]);
    const [manyOfFirst, fewOfSecond] = await Promise.all([many, few]);
    const { progress } = await first.client.getJob(long.id);
    await first.client.cancelJob(long.id);
    return { alone, otherKey, sameKey, manyOfFirst, fewOfSecond, longSteps: progress?.step ?? 0 };
  } finally {
    await stack.stop();
  }
}

/** Rows of about 55 tokens. @param {string} name what makes them differ */
function rowsOf(name) {
  return Array.from({ length: 100 }, (_, row) => {
    const words = Array.from({ length: 24 }, (_word, i) => ['red', 'green', 'blue', 'black'][(row * 7 + i * i) % 4]);
    const prompt = [name, ...words].join(' ');
    return `${JSON.stringify({ prompt, completion: ` ${words.reverse().join(' ')}` })}\n`;
  }).join('');
}
