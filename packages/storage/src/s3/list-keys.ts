import { mapWithConcurrency } from '@lorasmith/concurrency';
import { KEYS_PER_REQUEST, type S3Objects } from './s3-objects.js';

/** Ids are random digits after their prefix: each starts an equal part of them. */
const DIGITS = [...'0123456789abcdef'];

/**
 * All keys under a prefix, in their order. Where they are more than one request answers, the rest is listed in parts at the same time: those up to
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
  const starts = DIGITS.map((digit) => ofIds + digit).filter((start) => start > last);
  return [...found, ...(await listParts(objects, prefix, starts, last))];
}

/**
 * All keys under a prefix beyond `after`, in their order, in parts at the same time: up to the first of the divisions, up to the next one, and
 * so on to the end.
 * @param divisions - Sorted, each beyond `after`; any will do.
 */
export async function listParts(
  objects: Pick<S3Objects, 'list'>,
  prefix: string,
  divisions: readonly string[],
  after?: string,
): Promise<string[]> {
  const starts = [after, ...divisions];
  const parts = await mapWithConcurrency([...starts.keys()], starts.length, async (part) => {
    const end = starts[part + 1];
    const keys: string[] = [];
    for await (const { key } of objects.list(prefix, { after: starts[part] })) {
      if (end !== undefined && key > end) break;
      keys.push(key);
    }
    return keys;
  });
  return parts.flat();
}
