import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, truncate, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ExampleNotes, ExampleWriter } from './example-file.js';
import { type ExampleId, type ExampleStore, type OpenExamples, openExampleStore } from './example-store.js';

const NOTES: ExampleNotes = {
  counts: { overflowed: 0, dropped: 1, truncated: 0, split: 0, longest: 3 },
  warnings: [{ code: 'special_token_in_text', message: 'a warning', line: 2 }],
  rendered: { completion_format: 'text', first_row: [{ text: 'a', trained: true }] },
};
const idOf = (dataset: string, digest = 'a') => ({ dataset, digest: digest.repeat(64) });
const HOUR_MS = 3_600_000;

let dataDir: string;
let store: ExampleStore;
const inUse: OpenExamples[] = [];
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'example-store-'));
  store = await openExampleStore({ dataDir, maxBytes: 2 ** 30 });
});
afterEach(async () => {
  await Promise.all(inUse.splice(0).map((examples) => examples.close()));
  await rm(dataDir, { recursive: true });
});

/** Examples of one token each, `first` and those that follow it. */
const filledWith = (first: number, count: number) => async (writer: ExampleWriter) => {
  for (let row = 0; row < count; row++)
    writer.add({ codes: Int32Array.of(first + row), trained: 0, row, line: row + 1 });
  return NOTES;
};

async function made(id: ExampleId, first = 0, count = 10, within = store): Promise<OpenExamples> {
  const examples = await within.make(id, filledWith(first, count));
  inUse.push(examples!);
  return examples!;
}

function contentOf({ file }: OpenExamples): number[] {
  return Array.from({ length: file.count }, (_, number) => file.codes(file.record(number))[0]!);
}

const kept = () => readdir(join(dataDir, 'tokens'));
const folderOf = async (dataset: string) => {
  const name = (await kept()).find((bundle) => bundle.startsWith(`${dataset}-`));
  return join(dataDir, 'tokens', name ?? 'none');
};

/** Makes the dataset look last used `hours` ago. Its own word that it is in use is given once a minute. */
async function age(dataset: string, hours: number): Promise<void> {
  const then = new Date(Date.now() - hours * HOUR_MS);
  await utimes(await folderOf(dataset), then, then);
}

describe('examples', () => {
  test('are stored under what they were made from', async () => {
    expect(await store.open(idOf('ds_1'))).toBeNull();
    expect(contentOf(await made(idOf('ds_1'), 7, 3))).toEqual([7, 8, 9]);
    const again = (await store.open(idOf('ds_1')))!;
    inUse.push(again);
    expect(contentOf(again)).toEqual([7, 8, 9]);
    expect(again.file.summary.notes).toEqual(NOTES);
    expect(await store.open(idOf('ds_1', 'b'))).toBeNull();
    expect(await store.open(idOf('ds_2'))).toBeNull();
  });

  test('examples that went wrong leave nothing', async () => {
    const wrong = store.make(idOf('ds_1'), async (writer) => {
      await filledWith(0, 5)(writer);
      throw new Error('a wrong row');
    });
    await expect(wrong).rejects.toThrow('a wrong row');
    expect(await store.make(idOf('ds_1'), async () => null)).toBeNull();
    expect(await kept()).toEqual([]);
    expect(await readdir(join(dataDir, '.staging'))).toEqual([]);
  });

  test('made by several at once are complete for each of them, and stored once', async () => {
    const stores = await Promise.all(Array.from({ length: 6 }, () => openExampleStore({ dataDir, maxBytes: 2 ** 30 })));
    const all = await Promise.all(stores.map((within) => made(idOf('ds_1'), 100, 5000, within)));
    const expected = Array.from({ length: 5000 }, (_, row) => 100 + row);
    for (const examples of all) expect(contentOf(examples)).toEqual(expected);
    expect(await kept()).toHaveLength(1);
    expect(await readdir(join(dataDir, '.staging'))).toEqual([]);
  });

  test('examples that are damaged are removed and made again', async () => {
    await made(idOf('ds_1'), 5, 4);
    await truncate(join(await folderOf('ds_1'), 'words.bin'), 7);
    expect(await store.open(idOf('ds_1'))).toBeNull();
    expect(await kept()).toEqual([]);
    expect(contentOf(await made(idOf('ds_1'), 5, 4))).toEqual([5, 6, 7, 8]);
  });

  test('examples of a dataset are removed with it, and read to their end by who reads them', async () => {
    const reading = await made(idOf('ds_1', 'a'), 3, 2000);
    await made(idOf('ds_1', 'b'));
    await made(idOf('ds_10', 'a'));
    await store.removeDataset('ds_1');
    expect(await kept()).toEqual([`ds_10-${'a'.repeat(64)}`]);
    expect(contentOf(reading)).toEqual(Array.from({ length: 2000 }, (_, row) => 3 + row));
  });

  test('examples of datasets that no longer exist are swept', async () => {
    await made(idOf('ds_1'));
    await made(idOf('ds_2'));
    expect(await store.sweep(async (dataset) => dataset === 'ds_2')).toBe(1);
    expect((await kept()).map((name) => name.split('-')[0])).toEqual(['ds_2']);
  });
});

test('a maker that is killed leaves nothing to read, and what it leaves is swept once it is old', {
  timeout: 60_000,
}, async () => {
  const program = fileURLToPath(new URL('../../test/fixtures/endless-maker.mjs', import.meta.url));
  const maker = spawn(process.execPath, [program, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
  const gone = once(maker, 'exit');
  await once(maker.stdout, 'data');
  maker.kill('SIGKILL');
  expect((await gone)[1]).toBe('SIGKILL');
  const staging = join(dataDir, '.staging');
  const left = await readdir(staging);
  expect(left).toHaveLength(1);
  expect((await stat(join(staging, left[0]!, 'words.bin'))).size).toBeGreaterThan(2 ** 20);
  expect(await kept()).toEqual([]);
  expect(await store.open({ dataset: 'ds_1', digest: 'a' })).toBeNull();

  expect(await store.sweep(async () => true)).toBe(0);
  const then = new Date(Date.now() - 2 * HOUR_MS);
  for (const name of ['', 'words.bin', 'index.bin']) await utimes(join(staging, left[0]!, name), then, then);
  await made(idOf('ds_2'));
  expect(await readdir(staging)).toEqual([]);
});

test('writing on a full disk is storage_full, and nothing is left', async () => {
  const program = fileURLToPath(new URL('../../test/fixtures/endless-maker.mjs', import.meta.url));
  // No file may grow beyond half a megabyte; with its signal ignored, a write says so as on a full disk.
  const limited = 'trap "" XFSZ; ulimit -f 512; exec "$0" "$@"';
  const { stdout } = await promisify(execFile)('bash', ['-c', limited, process.execPath, program, dataDir]);
  expect(stdout).toBe('storage_full');
  expect(await kept()).toEqual([]);
  expect(await readdir(join(dataDir, '.staging'))).toEqual([]);
});

describe('the bound in bytes', () => {
  /** Bytes of the examples that `made` makes of 10 rows. */
  async function bytesOf(dataset: string): Promise<number> {
    const folder = await folderOf(dataset);
    const sizes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  test('is kept by removing the least recently used first', async () => {
    for (const [dataset, hours] of [
      ['ds_1', 3],
      ['ds_2', 5],
      ['ds_3', 4],
    ] as const) {
      await (await made(idOf(dataset))).close();
      await age(dataset, hours);
    }
    inUse.length = 0;
    const two = await openExampleStore({ dataDir, maxBytes: 2 * (await bytesOf('ds_1')) + 1 });
    await made(idOf('ds_4'), 0, 10, two);
    expect((await kept()).map((name) => name.split('-')[0])).toEqual(['ds_1', 'ds_4']);
  });

  test('gives way to what is in use', async () => {
    const none = await openExampleStore({ dataDir, maxBytes: 0 });
    const reading = await made(idOf('ds_1'), 0, 10, none);
    const alsoReading = await made(idOf('ds_2'), 50, 10, none);
    expect(await kept()).toHaveLength(2);
    await age('ds_1', 1);
    await none.sweep(async () => true);
    expect((await kept()).map((name) => name.split('-')[0])).toEqual(['ds_2']);
    // Even what was taken for unused is read to its end.
    expect(contentOf(reading)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(contentOf(alsoReading)).toHaveLength(10);
  });

  test('counts what is opened as used', async () => {
    await made(idOf('ds_1'));
    await age('ds_1', 2);
    inUse.push((await store.open(idOf('ds_1')))!);
    const none = await openExampleStore({ dataDir, maxBytes: 0 });
    expect(Date.now() - (await stat(await folderOf('ds_1'))).mtimeMs).toBeLessThan(HOUR_MS);
    await none.sweep(async () => true);
    expect(await kept()).toHaveLength(1);
  });
});
