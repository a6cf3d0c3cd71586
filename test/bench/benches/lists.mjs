import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { say } from '../measured.mjs';
import { options, quick, ROOT } from '../options.mjs';
import { lists as listsOfAdapters } from '../parts/lists.mjs';
import { table } from '../tables.mjs';

/** Lists and quotas of many adapters in a bucket, of this checkout and, with --before, of another one. */
export async function lists() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-lists-'));
  const adapters = quick ? 1_000 : 10_000;
  const delayMs = 20;
  const roots = options.before === undefined ? [ROOT] : [path.resolve(options.before), ROOT];
  try {
    const figures = await listsOfAdapters({ roots, folder, cache: cacheDir(process.env), adapters, delayMs });
    say(`${adapters} adapters of ten keys in a bucket whose answers take ${delayMs} ms longer.`);
    const columns = roots.length === 1 ? [''] : [', before', ', now'];
    say(
      table(
        ['what', ...columns.map((column) => `list requests, others, seconds${column}`)],
        Object.keys(/** @type {object} */ (figures.at(-1))).map((name) => [
          name,
          ...figures.map(({ [name]: one }) => (one ? `${one.lists}, ${one.others}, ${one.seconds.toFixed(2)}` : '')),
        ]),
      ),
    );
    return { adapters, delayMs, figures };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
