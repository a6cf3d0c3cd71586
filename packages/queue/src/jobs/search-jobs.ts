import type { JobSpec, JobStatus, SweepId } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';

/** The conditions of a search, all of which a job must meet. */
export interface JobFilter {
  status?: JobStatus | undefined;
  /** A text in name, id, base model, dataset or tags. */
  q?: string | undefined;
  /** A text in the name. */
  name?: string | undefined;
  /** Tags in lower case. */
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
/** Jobs that Redis looks at without a pause, which takes it one to some milliseconds. */
const SEARCHED_AT_ONCE = 500;

/**
 * The text in {@link JobKeys.searchFacts} under the id of a job, what never changes, each on a line of its own. Under `id:name` is the name in lower case, and under `id:tags` the
 * tags, each on a line of its own.
 */
export function searchFacts({ base_model, dataset }: JobSpec, createdAt: Date, sweep: SweepId | '' = ''): string {
  const lines = [`model ${base_model}`, `dataset ${dataset}`, `sweep ${sweep}`, `created ${createdAt.getTime()}`];
  return `\n${lines.join('\n')}\n`;
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
local ids = {}
for number = 1, looked_at do ids[number] = entries[2 * number - 1] end

-- What jobs are found by, under their ids and a suffix; nil where no condition needs it.
local function facts_of(suffix, is_needed)
  if not is_needed then return nil end
  local fields = {}
  for number = 1, looked_at do fields[number] = ids[number] .. suffix end
  return redis.call('HMGET', search_facts, unpack(fields))
end
local facts = redis.call('HMGET', search_facts, unpack(ids))
local names = facts_of(':name', name ~= '' or q ~= '')
local tags = facts_of(':tags', #rest > 0 or q ~= '')
local has_status = status ~= '' and redis.call('ZMSCORE', status_jobs, unpack(ids))
local from, to = tonumber(created_from), tonumber(created_before)
local find, match = string.find, string.match

-- Lines that the facts must have.
local lines = {}
for key, value in pairs({model = base_model, dataset = dataset, sweep = sweep}) do
  if value ~= '' then lines[#lines + 1] = '\\n' .. key .. ' ' .. value .. '\\n' end
end

local function matches(number, text)
  -- One that is deleted at this moment has no facts.
  if not text or (has_status and not has_status[number]) then return false end
  for _, line in ipairs(lines) do
    if not find(text, line, 1, true) then return false end
  end
  if from or to then
    local created = tonumber(match(text, '\\ncreated (%d+)\\n'))
    if (from and created < from) or (to and created >= to) then return false end
  end
  local own_name, own_tags = names and names[number] or '', tags and tags[number] or ''
  if name ~= '' and not find(own_name, name, 1, true) then return false end
  for _, tag in ipairs(rest) do
    if not find(own_tags, '\\n' .. tag .. '\\n', 1, true) then return false end
  end
  return q == '' or find(own_name, q, 1, true) or find(ids[number], q, 1, true) or find(own_tags, q, 1, true)
    or find(string.lower(match(text, '\\nmodel (.-)\\n')), q, 1, true) or find(match(text, '\\ndataset (.-)\\n'), q, 1, true)
end

local size = 1
for number = 1, looked_at do
  local text = facts[number]
  if matches(number, text) then
    found[size + 1], found[size + 2] = ids[number], entries[2 * number]
    found[size + 3] = match(text, '\\nsweep (.-)\\n')
    size = size + 3
  end
end
return found
`,
});

/** The jobs of an index that match, newest first, of the newest {@link MAX_SEARCHED_JOBS}. Redis answers others after each few hundred. */
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
