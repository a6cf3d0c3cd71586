import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { ExampleFile } from './example-file/example-file.js';
import type { ExampleRecord } from './example-file/example-record.js';
import { throwIfPlanningStopped } from './planning-stopped.js';

/** Words to read of each dataset: about a second. */
const MAX_WORDS = 32_000_000;
/** Reading an example costs as much as this many words of it. */
const WORDS_OF_A_READ = 256;
/** Records between two turns of the event loop. */
const SCAN_RECORDS = 10_000;

/**
 * How many rows of the validation dataset are the same example as a row to train on: the same tokens, of which the same are trained.
 * Only examples of a length that occurs in both are read, and of large datasets the first ones: then it is a lower bound.
 *
 * @throws ProductError `cancelled` when the signal is aborted
 */
export async function rowsInBoth(
  training: ExampleFile,
  validation: ExampleFile,
  signal?: AbortSignal,
): Promise<{ rows: number; isLowerBound: boolean }> {
  const lengths = new Set<number>();
  const rowsOf = new Map<string, number[]>();
  const isWhole = await readEach(validation, signal, (record, digest) => {
    lengths.add(record.words);
    const key = digest();
    const rows = rowsOf.get(key);
    if (rows === undefined) rowsOf.set(key, [record.row]);
    else rows.push(record.row);
    return true;
  });
  const found = new Set<number>();
  const isComplete = await readEach(training, signal, ({ words }, digest) => {
    if (!lengths.has(words)) return false;
    for (const row of rowsOf.get(digest()) ?? []) found.add(row);
    return true;
  });
  return { rows: found.size, isLowerBound: !isWhole || !isComplete };
}

/** @param visit - Returns whether it has asked for the digest. @returns false if the rest was left out */
async function readEach(
  file: ExampleFile,
  signal: AbortSignal | undefined,
  visit: (record: ExampleRecord, digest: () => string) => boolean,
): Promise<boolean> {
  let words = 0;
  for (let first = 0; first < file.count; first += SCAN_RECORDS) {
    for (const record of file.records(first, Math.min(SCAN_RECORDS, file.count - first))) {
      if (words + record.words > MAX_WORDS) return false;
      if (visit(record, () => digestOf(file.words(record)))) words += record.words + WORDS_OF_A_READ;
    }
    await setImmediate();
    throwIfPlanningStopped(signal);
  }
  return true;
}

function digestOf(words: Int32Array): string {
  return createHash('sha1').update(words).digest('base64');
}
