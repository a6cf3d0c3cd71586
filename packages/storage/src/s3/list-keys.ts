import { mapWithConcurrency } from '@lorasmith/concurrency';
import type { S3Objects } from './s3-objects.js';

/** Keys of an answer to a list request. */
const KEYS_PER_REQUEST = 1_000;
/** Ids are random digits after their prefix: each starts an equal part of them. */
const DIGITS = [...'0123456789abcdef'];

/**
 * All keys under a prefix, in no useful order. Where they are more than one request answers, the rest is listed in parts at the same time: those up to
 * the first digit after the ids' own prefix, up to the next one, and so on to the end. So nothing is left out whatever the keys are, and only
 * those with random digits are listed faster.
 */
export async function listKeys(objects: Pick<S3Objects, 'list'>, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of objects.list(prefix)) {
    found.push(key);
    if (found.length === KEYS_PER_REQUEST) break;
  }
  const last = found.at(-1);
  if (last === undefined || found.length < KEYS_PER_REQUEST) return found;
  const ofIds = prefix + last.slice(prefix.length).replace(/_.*/s, '_');
  const starts = [last, ...DIGITS.map((digit) => ofIds + digit).filter((start) => start > last)];
  const parts = await mapWithConcurrency(starts, starts.length, async (start) => {
    const end = starts[starts.indexOf(start) + 1];
    const keys: string[] = [];
    for await (const { key } of objects.list(prefix, start)) {
      if (end !== undefined && key > end) break;
      keys.push(key);
    }
    return keys;
  });
  return [...found, ...parts.flat()];
}
