import { type DetailsChange, type JobId, ProductError } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';
import { searchedName, searchedTags } from './search-jobs.js';

const changeDetailsScript = luaScript(import.meta.url, './change-details.lua');

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
