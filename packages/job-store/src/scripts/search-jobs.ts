import type { JobSpec, JobStatus, SweepId } from '@lorasmith/contracts';
import { luaScript } from '@lorasmith/redis';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';

/** What a search wants of a job. All of it must be so. */
export interface JobFilter {
  status?: JobStatus | undefined;
  /** A text in name, id, base model, dataset or tags. */
  q?: string | undefined;
  /** A text in the name. */
  name?: string | undefined;
  /** In lower case. */
  tags?: readonly string[] | undefined;
  base_model?: string | undefined;
  dataset?: string | undefined;
  sweep?: string | undefined;
  /** Milliseconds. */
  createdFrom?: number | undefined;
  /** Milliseconds, exclusive. */
  createdBefore?: number | undefined;
}

/** A job that a search found. */
export interface FoundJob {
  id: string;
  /** Its place in the index: the higher, the newer. */
  sequence: number;
  /** '' without one. */
  sweep: string;
}

/** The newest jobs of an index that are searched. More would take Redis too long for one request. */
export const MAX_SEARCHED_JOBS = 20_000;
/** Limits, for docs/limits.md. */
export const jobSearchLimits = {
  searched: {
    value: MAX_SEARCHED_JOBS,
    unit: 'jobs that the key sees',
    beyond: 'a list with a filter or another order than the newest first leaves out the oldest',
  },
};
/** Jobs that Redis looks at without a pause, which takes it about a millisecond. */
const SEARCHED_AT_ONCE = 1_000;

/**
 * The text in {@link JobKeys.searchFacts} under the id of a job: what never changes. Under `id:name` is the name in lower case, and under `id:tags` the
 * tags, each on a line of its own.
 */
export function searchFacts({ base_model, dataset }: JobSpec, createdAt: Date, sweep: SweepId | '' = ''): string {
  return [base_model, dataset, sweep, createdAt.getTime()].join('\n');
}

/** The text under `id:name`; '' is not stored. */
export function searchedName(name: string | null): string {
  return (name ?? '').toLowerCase();
}

/** The text under `id:tags`; '' is not stored. */
export function searchedTags(tags: readonly string[]): string {
  return tags.length === 0 ? '' : `\n${tags.join('\n').toLowerCase()}\n`;
}

/**
 * Looks at the next `count` jobs of an index, newest first. '' as an argument is no condition; `rest` are tags.
 *
 * Returns the score of the last job that was looked at ('' if there are no further ones), then id, sequence and sweep of each that matches.
 */
const searchJobsScript = luaScript({
  keys: ['index', 'search_facts', 'status_jobs'],
  arguments: [
    'before',
    'count',
    'status',
    'q',
    'name',
    'base_model',
    'dataset',
    'sweep',
    'created_from',
    'created_before',
  ],
  lua: /* lua */ `
local entries = redis.call('ZREVRANGEBYSCORE', index, before, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
local looked_at = #entries / 2
local found = {looked_at < tonumber(count) and '' or entries[#entries]}
if looked_at == 0 then return found end
local ids, fields = {}, {}
for number = 1, looked_at do
  local id = entries[2 * number - 1]
  ids[number] = id
  fields[3 * number - 2], fields[3 * number - 1], fields[3 * number] = id, id .. ':name', id .. ':tags'
end
local facts = redis.call('HMGET', search_facts, unpack(fields))
local has_status = status ~= '' and redis.call('ZMSCORE', status_jobs, unpack(ids))
local from, to = tonumber(created_from) or 0, tonumber(created_before) or math.huge

local function has(text, part)
  return string.find(text, part, 1, true) ~= nil
end

local function has_tags(tags)
  for _, tag in ipairs(rest) do
    if not has(tags, '\\n' .. tag .. '\\n') then return false end
  end
  return true
end

for number = 1, looked_at do
  local id, text = ids[number], facts[3 * number - 2]
  -- One that is deleted at this moment has no facts.
  if text and (not has_status or has_status[number]) then
    local own_name, tags = facts[3 * number - 1] or '', facts[3 * number] or ''
    local own_model, own_dataset, own_sweep, created = string.match(text, '^(.-)\\n(.-)\\n(.-)\\n(.-)$')
    created = tonumber(created)
    if (base_model == '' or own_model == base_model) and (dataset == '' or own_dataset == dataset)
      and (sweep == '' or own_sweep == sweep) and created >= from and created < to
      and (name == '' or has(own_name, name)) and has_tags(tags)
      and (q == '' or has(own_name, q) or has(id, q) or has(string.lower(own_model), q) or has(own_dataset, q) or has(tags, q))
    then
      found[#found + 1], found[#found + 2], found[#found + 3] = id, entries[2 * number], own_sweep
    end
  end
end
return found
`,
});

/** The jobs of an index that match, newest first, of the newest {@link MAX_SEARCHED_JOBS}. Redis answers others after each thousand. */
export async function searchJobs(
  { redis, keys }: { redis: Redis; keys: JobKeys },
  index: string,
  filter: JobFilter,
): Promise<FoundJob[]> {
  const { status, q = '', name = '', tags = [], base_model = '', dataset = '', sweep = '' } = filter;
  const found: FoundJob[] = [];
  let before = '+inf';
  for (let looked = 0; looked < MAX_SEARCHED_JOBS; looked += SEARCHED_AT_ONCE) {
    const [last, ...matching] = (await searchJobsScript(
      redis,
      { index, search_facts: keys.searchFacts, status_jobs: status === undefined ? index : keys.withStatus(status) },
      {
        before,
        count: SEARCHED_AT_ONCE,
        status: status ?? '',
        q: q.toLowerCase(),
        name: name.toLowerCase(),
        base_model,
        dataset,
        sweep,
        created_from: filter.createdFrom ?? '',
        created_before: filter.createdBefore ?? '',
      },
      tags,
    )) as string[];
    for (let at = 0; at < matching.length; at += 3) {
      found.push({ id: matching[at]!, sequence: Number(matching[at + 1]), sweep: matching[at + 2]! });
    }
    if (!last) break;
    before = `(${last}`;
  }
  return found;
}
