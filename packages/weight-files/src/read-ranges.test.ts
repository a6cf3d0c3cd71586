import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { createRegion, type FileRange, giveAway, readRanges, Sha256 } from './read-ranges.js';

// What is read, converted and hashed is tested with the engine: packages/models/src/loading/read-weights.test.ts.

const FILE = fileURLToPath(import.meta.url);
const range = (change: Partial<FileRange> = {}): FileRange => {
  return { fileOffset: 0, bytes: 8, region: createRegion(8), regionOffset: 0, from: 'BF16', to: 'BF16', ...change };
};

test('a file that cannot be read is the error of the system', async () => {
  const folder = await open('/', 'r');
  await expect(readRanges(folder.fd, { begin: 0, end: 8 }, [range()], null)).rejects.toMatchObject({ code: 'EISDIR' });
  await folder.close();
});

test('a file that ends early is not complete', async () => {
  const file = await open(FILE, 'r');
  const { size } = await file.stat();
  expect(await readRanges(file.fd, { begin: 0, end: size }, [], new Sha256())).toBe(true);
  expect(await readRanges(file.fd, { begin: 0, end: size + 1 }, [], new Sha256())).toBe(false);
  await file.close();
});

test('pieces outside of their region or of the range, and regions that were given away, are refused', async () => {
  const file = await open(FILE, 'r');
  const read = async (one: FileRange) => await readRanges(file.fd, { begin: 0, end: 16 }, [one], null);
  await expect(read(range({ regionOffset: 2 }))).rejects.toThrow(RangeError);
  await expect(read(range({ to: 'F32' }))).rejects.toThrow(RangeError);
  await expect(read(range({ fileOffset: 9 }))).rejects.toThrow(RangeError);
  // Lost for this process.
  const region = createRegion(8);
  expect(giveAway(region).bytes).toBe(8);
  expect(() => giveAway(region)).toThrow('given away');
  await expect(read(range({ region }))).rejects.toThrow(RangeError);
  await file.close();
});
