import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { checkouts, latencyOf, model, ROOT, say } from '../harness.mjs';
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

/** Latencies of requests of one key, alone and beside uploads of another that are made to be slow; with --before, of another checkout, too. */
export async function neighbour() {
  /** @type {Record<string, NeighbourResult>} */
  const results = {};
  for (const [name, root] of Object.entries(checkouts())) {
    const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-neighbour-'));
    try {
      const result = await latenciesOf({ root, folder, model });
      results[name] = result;
      say(`Milliseconds of requests of one key (${name}): median and 99th percentile.`);
      const head = ['request', 'alone', 'beside 16 uploads of another key', 'after their sender has left'];
      const rows = Object.keys(result.alone).map((route) => [
        route,
        ...[result.alone, result.besideUploads, result.afterThem].map((all) => shown(all[route])),
      ]);
      say(table(head, rows));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  return results;
}

/** @param {import('../harness.mjs').Latency | undefined} latency */
function shown(latency) {
  return latency === undefined ? '' : `${latency.p50.toFixed(0)}, ${latency.p99.toFixed(0)}`;
}

/**
 * Milliseconds of requests of one key through the HTTP API, by method and path.
 *
 * @typedef {Record<string, import('../harness.mjs').Latency>} Latencies
 *
 * @typedef {object} NeighbourResult
 * @property {Latencies} alone
 * @property {Latencies} besideUploads beside 16 uploads of another key, whose rows take more than a minute each to check
 * @property {Latencies} afterThem in the seconds after their sender has left
 */

const UPLOADS = 16;
const ROUNDS = 100;

/**
 * @param {{ root: string, folder: string, model: string }} options `folder`: an empty one
 * @returns {Promise<NeighbourResult>}
 */
async function latenciesOf({ root, folder, model }) {
  const stack = await startBenchStack({ root, folder, models: [model], env: { KEY_REQUESTS_PER_MINUTE: '1000000' } });
  try {
    const keyOf = async (/** @type {string} */ name) => {
      const { token } = await createBenchKey({ root, dataDir: path.join(folder, 'data') }, name);
      return { authorization: `Bearer ${token}` };
    };
    const [own, other] = [await keyOf('own'), await keyOf('other')];
    const ask = async (/** @type {string} */ route, /** @type {RequestInit} */ init = {}) => {
      const answer = await fetch(`${stack.apiUrl}${route}`, { ...init, headers: { ...own, ...init.headers } });
      return { status: answer.status, body: /** @type {{ id: string }} */ (await answer.json()) };
    };
    const rows = Array.from({ length: 24 }, (_, row) => `{"prompt":"row ${row}","completion":"answer ${row}"}\n`);
    const { body: dataset } = await ask('/datasets', { method: 'POST', body: rows.join(''), headers: TEXT });
    const posted = async () => {
      const request = { base_model: path.basename(model), dataset: dataset.id, training: { max_steps: 1 } };
      const sent = { method: 'POST', body: JSON.stringify(request), headers: JSON_BODY };
      const { status, body } = await ask('/jobs', sent);
      if (status !== 202) throw new Error(`POST /jobs answered ${status}: ${JSON.stringify(body)}`);
      return body.id;
    };
    const ROUTES = ['/jobs', '/datasets', '/adapters', '/v1/models', `/datasets/${dataset.id}`, '/models'];
    const measure = async () => {
      /** @type {Record<string, number[]>} */
      const all = {};
      const timed = async (/** @type {string} */ name, /** @type {() => Promise<unknown>} */ send) => {
        const began = performance.now();
        const result = await send();
        const ms = performance.now() - began;
        all[name] = [...(all[name] ?? []), ms];
        return result;
      };
      for (let round = 0; round < ROUNDS; round++) {
        for (const route of ROUTES) await timed(`GET ${route.replace(dataset.id, ':id')}`, () => ask(route));
        if (round % 5 === 0) {
          const id = await timed('POST /jobs', posted);
          await ask(`/jobs/${id}/cancel`, { method: 'POST' });
        }
        await wait(20);
      }
      return Object.fromEntries(Object.entries(all).map(([name, times]) => [name, latencyOf(times)]));
    };
    await measure();
    const alone = await measure();
    const bomb = gzipSync(Buffer.alloc(300_000_000, '{"text":"a"}\n'));
    const leaving = new AbortController();
    const headers = { ...other, 'content-type': 'application/gzip' };
    const uploads = Array.from({ length: UPLOADS }, () =>
      fetch(`${stack.apiUrl}/datasets`, { method: 'POST', body: bomb, headers, signal: leaving.signal }).catch(
        () => null,
      ),
    );
    await wait(2_000);
    const besideUploads = await measure();
    leaving.abort();
    await Promise.all(uploads);
    const afterThem = await measure();
    return { alone, besideUploads, afterThem };
  } finally {
    await stack.stop();
  }
}

const TEXT = { 'content-type': 'application/jsonl' };
const JSON_BODY = { 'content-type': 'application/json' };
