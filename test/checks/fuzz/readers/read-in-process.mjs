// Reads each input that its parent sends with one reader: node read-in-process.mjs READER
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { register } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../../../../scripts/setup/locations.mjs';

register('./instrument-hooks.mjs', import.meta.url);

/** The most that is read of the rows of an input. */
const MAX_BYTES = 10_000_000;
const LIMITS = { columns: 'all', maxRows: 10_000 };

/** @type {Record<string, (folder: string) => Promise<(input: Buffer) => Promise<void>>>} */
const READERS = {
  async parquet(folder) {
    const { linesOfParquet } = await import(path.join(ROOT_DIR, 'packages/row-files/dist/parquet-lines.js'));
    const location = path.join(folder, 'x.parquet');
    return async (input) => {
      await writeFile(location, input);
      const file = await open(location);
      try {
        let bytes = 0;
        for await (const line of linesOfParquet(file, LIMITS)) {
          const row = JSON.parse(line.toString());
          if (line.at(-1) !== 0x0a || typeof row !== 'object' || row === null) throw new Error('a line is no row');
          bytes += line.length;
          if (bytes > MAX_BYTES) return;
        }
      } finally {
        await file.close();
      }
    };
  },
};

const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fuzz-'));
const read = await /** @type {NonNullable<typeof READERS[string]>} */ (READERS[process.argv[2] ?? ''])(folder);
process.on('disconnect', () => void rm(folder, { recursive: true, force: true }).then(() => process.exit()));
process.send?.({});
process.on('message', (/** @type {Uint8Array} */ input) => void answer(Buffer.from(input)));

/** @param {Buffer} input */
async function answer(input) {
  const files = /** @type {Record<string, any>} */ (/** @type {any} */ (globalThis).__coverage__ ?? {});
  for (const { s, b } of Object.values(files)) {
    for (const key of Object.keys(s)) s[key] = 0;
    for (const runs of Object.values(b)) runs.fill(0);
  }
  let [refused, fault] = [false, ''];
  try {
    await read(input);
  } catch (error) {
    refused = error instanceof Error && error.constructor.name === 'ProductError';
    fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const coverage = Object.fromEntries(Object.entries(files).map(([file, { s, b }]) => [file, { s, b }]));
  process.send?.({ coverage, refused, fault });
}
