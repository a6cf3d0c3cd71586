import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { ExampleFile } from './example-file/example-file.js';
import type { ExampleRecord } from './example-file/example-format.js';
import { throwIfPlanningStopped } from './planning-stopped.js';

/** Codes to read of each dataset: about a second. */
const MAX_CODES = 32_000_000;
/** Reading an example costs as much as this many codes of it. */
const CODES_OF_A_READ = 256;
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
    lengths.add(record.codes);
    const key = digest();
    const rows = rowsOf.get(key);
    if (rows === undefined) rowsOf.set(key, [record.row]);
    else rows.push(record.row);
    return true;
  });
  const found = new Set<number>();
  const isComplete = await readEach(training, signal, ({ codes }, digest) => {
    if (!lengths.has(codes)) return false;
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
  let codes = 0;
  for (let first = 0; first < file.count; first += SCAN_RECORDS) {
    for (const record of file.records(first, Math.min(SCAN_RECORDS, file.count - first))) {
      if (codes + record.codes > MAX_CODES) return false;
      if (visit(record, () => digestOf(file.codes(record)))) codes += record.codes + CODES_OF_A_READ;
    }
    await setImmediate();
    throwIfPlanningStopped(signal);
  }
  return true;
}

function digestOf(codes: Int32Array): string {
  return createHash('sha1').update(codes).digest('base64');
}
