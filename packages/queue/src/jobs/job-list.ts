import {
  type Counted,
  compareValues,
  JOB_STATUSES,
  type Job,
  type JobId,
  type JobStatus,
  type KeyId,
  type Owner,
  orderOf,
  type SortedValue,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { beginningOf, newest, pageOf } from '../redis/index-pages.js';
import { repliesOf } from '../redis/redis-errors.js';
import { jobOfRecord, parsed } from './job-record.js';
import { type FoundJob, type JobFilter, searchJobs } from './search-jobs.js';

export interface ListJobsOptions extends JobFilter {
  /** Only the jobs that belong to this key. */
  owner?: KeyId | undefined;
  /** Id of the last job of the previous page. */
  after?: JobId | undefined;
  /** @defaultValue 20 */
  limit?: number | undefined;
  /** Lists only the first job in the order of each sweep. @defaultValue all are listed */
  collapse?: 'sweep' | undefined;
  /** One of `JOB_SORTS`, or the path of a setting. @defaultValue created_at */
  sort?: string | undefined;
  /** @defaultValue desc for created_at, time and duration, otherwise asc */
  order?: 'asc' | 'desc' | undefined;
}

/** The number of jobs by status, and how long they wait. */
export interface QueueStatus {
  jobs: Record<JobStatus, number>;
  /** When the job that has waited longest was created; null if no job waits. */
  oldestQueuedAt: Date | null;
}

interface Deps {
  redis: Redis;
  keys: JobKeys;
}

/** Reads of jobs: one, a list, and how many there are. */
export class JobList {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async getJob(id: JobId): Promise<Job | null> {
    return jobOfRecord(id, await this.#deps.redis.hgetall(this.#deps.keys.job(id)));
  }

  /** The owner of the job; undefined if there is no job. */
  async ownerOf(id: JobId): Promise<Owner | undefined> {
    const [dataset, owner] = await this.#deps.redis.hmget(this.#deps.keys.job(id), 'dataset', 'owner');
    return dataset ? (owner ?? null) : undefined;
  }

  /**
   * A page of jobs, newest first unless sorted otherwise. A page starts behind the job `after` as it is now, whether it still matches or not.
   * @throws ProductError `invalid_request` if the list has no job `after`
   */
  async listJobs(options: ListJobsOptions = {}): Promise<Counted<Job>> {
    const { redis, keys } = this.#deps;
    const { owner, after, limit = 20 } = options;
    const everything = owner === undefined ? keys.all : keys.ofOwner(owner);
    const before = await beginningOf(redis, everything, { kind: 'job', after });
    const index = indexOf(keys, everything, options);
    const { ids, total } =
      index === null
        ? await searchedPage(this.#deps, everything, options, before)
        : { ids: await newest(redis, index, before, limit + 1), total: await redis.zcard(index) };
    // A job whose status has changed since the index was read is returned with the new one.
    return { ...(await pageOf(redis, ids, { limit, key: keys.job, read: jobOfRecord })), total };
  }

  /** The state of the queue, for monitoring: counts that Redis maintains, so the cost does not grow with the number of jobs. */
  async queueStatus(): Promise<QueueStatus> {
    const { redis, keys } = this.#deps;
    const pipeline = redis.pipeline();
    for (const status of JOB_STATUSES) pipeline.zcard(keys.withStatus(status));
    pipeline.zrange(keys.withStatus('queued'), '0', '0');
    const replies = repliesOf(await pipeline.exec());
    const counts = JOB_STATUSES.map((status, i) => [status, replies[i]] as const);
    const [oldest] = replies.at(-1) as JobId[];
    const createdAt = oldest === undefined ? null : await redis.hget(keys.job(oldest), 'created_at');
    return {
      jobs: Object.fromEntries(counts) as Record<JobStatus, number>,
      oldestQueuedAt: createdAt === null ? null : new Date(createdAt),
    };
  }
}

/** A job with what it is sorted by. Null comes last. */
interface SortedJob extends FoundJob {
  value: SortedValue;
}

/** Records that are asked for one field at once. */
const READ_AT_ONCE = 500;

/** The index that has exactly the jobs of a list, in its order; null if they must be searched or sorted. */
function indexOf(keys: JobKeys, everything: string, options: ListJobsOptions): string | null {
  const { owner, after, limit, collapse, sort = 'created_at', order, status, ...filters } = options;
  const isNewestFirst = sort === 'created_at' && order !== 'asc' && collapse === undefined;
  if (!isNewestFirst || Object.values(filters).some((value) => value !== undefined)) return null;
  if (status === undefined) return everything;
  return owner === undefined ? keys.withStatus(status) : null;
}

/** The ids of a page of a list that is searched or sorted, and one more if there is one; and the number of jobs in the list. */
async function searchedPage(
  deps: Deps,
  index: string,
  { after, limit = 20, collapse, sort = 'created_at', order, ...filter }: ListJobsOptions,
  before: string,
): Promise<{ ids: string[]; total: number }> {
  const inOrder = orderOf(sort, order);
  const found = await withValues(deps, sort, await searchJobs(deps, index, filter));
  const sorted = found.sort((one, other) => compareJobs(one, other, inOrder));
  const listed = collapse === undefined ? sorted : firstOfSweeps(sorted);
  let start = 0;
  if (after !== undefined) {
    const last = { id: after, sequence: Number(before.slice(1)), sweep: '' };
    const [cursor] = await withValues(deps, sort, [last]);
    start = listed.filter((job) => compareJobs(job, cursor!, inOrder) <= 0).length;
  }
  return { ids: listed.slice(start, start + limit + 1).map(({ id }) => id), total: listed.length };
}

/** The first job of each sweep, and all of none. */
function firstOfSweeps(jobs: readonly SortedJob[]): SortedJob[] {
  const seen = new Set<string>();
  return jobs.filter(({ sweep }) => {
    if (sweep === '') return true;
    const isFirst = !seen.has(sweep);
    seen.add(sweep);
    return isFirst;
  });
}

/** The order of two jobs. Of equal ones, the newest is first in both orders. */
function compareJobs(one: SortedJob, other: SortedJob, order: 'asc' | 'desc'): number {
  return compareValues(one.value, other.value, order) || other.sequence - one.sequence;
}

/** The fields of a record that a value is made from, and the value. */
interface SortBy {
  fields: string[];
  valueIn(fields: Record<string, string | null>): SortedValue;
}

const timeOf = (text: string | null | undefined) => (text ? Date.parse(text) : null);

const SORTS: Readonly<Record<string, SortBy>> = {
  time: { fields: ['ended_at', 'created_at'], valueIn: (job) => timeOf(job.ended_at) ?? timeOf(job.created_at) },
  name: { fields: ['name'], valueIn: ({ name }) => parsed<string>(name) },
  status: { fields: ['status'], valueIn: ({ status }) => status ?? null },
  progress: {
    fields: ['progress'],
    valueIn({ progress }) {
      const done = parsed<{ step: number; total_steps: number }>(progress);
      return done === null ? null : done.step / done.total_steps;
    },
  },
  duration: {
    fields: ['started_at', 'ended_at'],
    valueIn({ started_at, ended_at }) {
      const [started, ended] = [timeOf(started_at), timeOf(ended_at)];
      return started === null || ended === null ? null : ended - started;
    },
  },
};

/** A field of the spec, such as `base_model` or `lora.r`. */
function ofSpec(path: string): SortBy {
  return {
    fields: ['spec'],
    valueIn({ spec }) {
      let value: unknown = parsed<object>(spec);
      for (const name of path.split('.')) value = (value as Record<string, unknown> | null | undefined)?.[name];
      return value === null || value === undefined ? null : typeof value === 'number' ? value : String(value);
    },
  };
}

/** The jobs with what they are sorted by: in batches, so that others are answered in between. */
async function withValues({ redis, keys }: Deps, sort: string, jobs: readonly FoundJob[]): Promise<SortedJob[]> {
  if (sort === 'created_at') return jobs.map((job) => ({ ...job, value: job.sequence }));
  const { fields, valueIn } = SORTS[sort] ?? ofSpec(sort);
  const sorted: SortedJob[] = [];
  for (let from = 0; from < jobs.length; from += READ_AT_ONCE) {
    const batch = jobs.slice(from, from + READ_AT_ONCE);
    const look = redis.pipeline();
    for (const { id } of batch) look.hmget(keys.job(id), ...fields);
    const replies = repliesOf(await look.exec()) as (string | null)[][];
    for (const [at, job] of batch.entries()) {
      const values = Object.fromEntries(fields.map((field, i) => [field, replies[at]![i] ?? null]));
      sorted.push({ ...job, value: valueIn(values) });
    }
  }
  return sorted;
}
