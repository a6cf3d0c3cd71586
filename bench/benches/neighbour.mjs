import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { say } from '../measured.mjs';
import { model, options, ROOT } from '../options.mjs';
import { neighbour as latenciesOf } from '../parts/neighbour.mjs';
import { table } from '../tables.mjs';

/** Latencies of requests of one key, alone and beside uploads of another that are made to be slow; with --before, of another checkout, too. */
export async function neighbour() {
  const roots = { ...(options.before === undefined ? {} : { before: path.resolve(options.before) }), now: ROOT };
  /** @type {Record<string, import('../parts/neighbour.mjs').NeighbourResult>} */
  const results = {};
  for (const [name, root] of Object.entries(roots)) {
    const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-neighbour-'));
    try {
      const result = await latenciesOf({ root, folder, model });
      results[name] = result;
      say(`Milliseconds of requests of one key (${name}): median and 99th percentile.`);
      const shown = (/** @type {number[] | undefined} */ times = []) => {
        const at = (/** @type {number} */ share) => times[Math.min(times.length - 1, Math.floor(share * times.length))];
        return `${at(0.5)?.toFixed(0)}, ${at(0.99)?.toFixed(0)}`;
      };
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
