import path from 'node:path';
import { startBenchStack, timedJob } from './around.mjs';
import { createBenchKey } from './bench-key.mjs';

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
export async function fairness({ root, folder, model }) {
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
