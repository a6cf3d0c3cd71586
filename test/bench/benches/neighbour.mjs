import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { say } from '../measured.mjs';
import { checkouts, model } from '../options.mjs';
import { neighbour as latenciesOf } from '../parts/neighbour.mjs';
import { table } from '../tables.mjs';

/** Latencies of requests of one key, alone and beside uploads of another that are made to be slow; with --before, of another checkout, too. */
export async function neighbour() {
  /** @type {Record<string, import('../parts/neighbour.mjs').NeighbourResult>} */
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

/** @param {import('../latency.mjs').Latency | undefined} latency */
function shown(latency) {
  return latency === undefined ? '' : `${latency.p50.toFixed(0)}, ${latency.p99.toFixed(0)}`;
}
