import { type DetailsChange, type JobId, ProductError } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';
import { searchedName, searchedTags } from './search-jobs.js';

/**
 * Changes fields of a job that do not affect it, together with what it is found by. `rest` has, for each, its name, its value, and the value to find it by.
 * A value of '' removes it.
 *
 * Returns `done` or `missing`.
 */
const changeDetailsScript = luaScript({
  keys: ['record', 'search_facts'],
  arguments: ['id'],
  lua: /* lua */ `
if redis.call('HEXISTS', record, 'status') == 0 then return 'missing' end
local function put(hash, field, value)
  if value == '' then redis.call('HDEL', hash, field) else redis.call('HSET', hash, field, value) end
end
for first = 1, #rest, 3 do
  put(record, rest[first], rest[first + 1])
  put(search_facts, id .. ':' .. rest[first], rest[first + 2])
end
return 'done'
`,
});

/** Changes the name, the tags and the note of a job, all at once. @throws ProductError `job_not_found` */
export async function changeJobDetails(
  { redis, keys }: { redis: Redis; keys: JobKeys },
  id: JobId,
  { name, tags, note }: DetailsChange,
): Promise<void> {
  const changes: string[] = [];
  if (name !== undefined) changes.push('name', name === null ? '' : JSON.stringify(name), searchedName(name));
  if (tags !== undefined) changes.push('tags', tags.length === 0 ? '' : JSON.stringify(tags), searchedTags(tags));
  // A note is not searched.
  if (note !== undefined) changes.push('note', note === null ? '' : JSON.stringify(note), '');
  const answer = await changeDetailsScript(
    redis,
    { record: keys.job(id), search_facts: keys.searchFacts },
    { id },
    changes,
  );
  if (answer === 'missing') throw new ProductError('job_not_found', `There is no job ${id}.`);
}
