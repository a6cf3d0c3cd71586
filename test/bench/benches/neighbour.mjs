import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { latencyOf, say } from '../measured.mjs';
import { checkouts, model } from '../options.mjs';
import { createBenchKey, startBenchStack } from '../parts/around.mjs';
import { table } from '../tables.mjs';

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

/** @param {import('../measured.mjs').Latency | undefined} latency */
function shown(latency) {
  return latency === undefined ? '' : `${latency.p50.toFixed(0)}, ${latency.p99.toFixed(0)}`;
}

/**
 * Milliseconds of requests of one key through the HTTP API, by method and path.
 *
 * @typedef {Record<string, import('../measured.mjs').Latency>} Latencies
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
