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
  /** Its score in the index: the higher, the newer. */
  sequence: number;
  /** '' without one. */
  sweep: string;
}

/** The newest jobs of an index that are searched. More would take Redis too long for one request. */
const MAX_SEARCHED_JOBS = 20_000;
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

const searchJobsScript = luaScript(import.meta.url, './search-jobs.lua', 'search_jobs');

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
