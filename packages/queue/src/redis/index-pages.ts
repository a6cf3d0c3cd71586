import { type Paged, ProductError } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { repliesOf } from './redis-errors.js';

/** The score of an index below which the page after this entry begins. @throws ProductError `invalid_request` if it has none `after` */
export async function beginningOf(
  redis: Redis,
  index: string,
  { kind, after }: { kind: 'job' | 'sweep' | 'comparison'; after: string | undefined },
): Promise<string> {
  if (after === undefined) return '+inf';
  const sequence = await redis.zscore(index, after);
  if (sequence !== null) return `(${sequence}`;
  const message = `There is no ${kind} ${after}. Start again at the first page.`;
  throw new ProductError('invalid_request', message, { param: 'after' });
}

/** The first `count` members of an index below a score, newest first. */
export async function newest(redis: Redis, index: string, before: string, count: number): Promise<string[]> {
  return await redis.zrevrangebyscore(index, before, '-inf', 'LIMIT', 0, count);
}

/** The page of the first `limit` of these ids, of which one more shows that there are further pages. */
export async function pageOf<Item extends { id: string }>(
  redis: Redis,
  ids: readonly string[],
  {
    limit,
    key,
    read,
  }: { limit: number; key(id: string): string; read(id: string, hash: Record<string, string>): Item | null },
): Promise<Paged<Item>> {
  const look = redis.pipeline();
  for (const id of ids.slice(0, limit)) look.hgetall(key(id));
  const records = repliesOf(await look.exec()) as Record<string, string>[];
  // What was deleted since the index was read has no record.
  const data = records.flatMap((record, i) => read(ids[i]!, record) ?? []);
  const has_more = ids.length > limit;
  return { data, has_more, next: has_more ? (data.at(-1)?.id ?? null) : null };
}
