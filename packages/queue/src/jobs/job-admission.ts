import { randomUUID } from 'node:crypto';
import { type AdapterId, type DatasetId, type JobId, type Owner, ProductError } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { InputId, JobKeys } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';
import { onRedis, repliesOf } from '../redis/redis-errors.js';
import { inputsOf, type JobWithInputs } from './record-change.js';

const beginDeletionScript = luaScript(import.meta.url, './jobs.lua', 'begin_deletion');
const reservedScript = luaScript(import.meta.url, './jobs.lua', 'read_reserved_bytes');

/** The time for which an idempotency key is stored. */
export const IDEMPOTENCY_SECONDS = 24 * 3600;
/** Longer than a request that still saw an input takes to create a job with it. */
const DELETION_SECONDS = 60;

export interface JobLimits {
  /** Maximum number of unfinished jobs of the owner, including the new ones. @defaultValue no limit */
  maxOfOwner?: number | undefined;
  /** Maximum number of jobs that wait for a worker, including the new ones. @defaultValue no limit */
  maxWaiting?: number | undefined;
}

type Inputs = Omit<JobWithInputs, 'id'>;

/** The keys that say whether something that the job reads is being deleted. */
export function deletionKeys(keys: JobKeys, job: Inputs) {
  const { dataset, validation, initialAdapter } = inputsOf(job);
  return {
    dataset_deletion: keys.inputDeletion(dataset),
    validation_deletion: keys.inputDeletion(validation),
    initial_adapter_deletion: keys.inputDeletion(initialAdapter),
  };
}

/** The arguments of a script that checks the limits. */
export function limitArguments({ maxOfOwner, maxWaiting }: JobLimits) {
  return { max_waiting: maxWaiting ?? '', max_of_owner: maxOfOwner ?? '' };
}

/**
 * Throws the error for the answer of a script that did not queue a job; does nothing for another answer.
 * @throws ProductError `dataset_not_found`, `adapter_not_found`, `quota_exceeded`, `queue_full`
 */
export function throwIfNotAdmitted(job: Inputs, answer: unknown, { maxOfOwner, maxWaiting }: JobLimits): void {
  const { dataset, validation, initialAdapter } = inputsOf(job);
  switch (answer) {
    case 'no-dataset':
      throw datasetGone(dataset, 'dataset');
    case 'no-validation':
      throw datasetGone(validation, 'validation.dataset');
    case 'no-initial-adapter': {
      const message = `The adapter ${initialAdapter} is being deleted. No job can begin from it.`;
      throw new ProductError('adapter_not_found', message, { param: 'lora.init_from' });
    }
    case 'owner-full': {
      const message = `This key has reached its limit of ${maxOfOwner} unfinished jobs. Wait for one, or cancel one.`;
      throw new ProductError('quota_exceeded', message);
    }
    case 'queue-full': {
      const message = `The queue has reached its limit of ${maxWaiting} waiting jobs. Try again later.`;
      throw new ProductError('queue_full', message);
    }
  }
}

/** @param what - What is created: a job, a sweep. */
export function idempotencyConflict(what: string): ProductError {
  const message = `This Idempotency-Key was used with another request. Use a new key for a new ${what}.`;
  return new ProductError('idempotency_conflict', message);
}

function datasetGone(id: DatasetId, param: string): ProductError {
  const message = `The dataset ${id} is being deleted. Upload it again to train with it.`;
  return new ProductError('dataset_not_found', message, { param });
}

interface Deps {
  redis: Redis;
  keys: JobKeys;
}

/** The jobs that read a dataset or begin from an adapter, the names that are being pointed at an adapter, and the deletions that exclude both. */
export class InputJobs {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** The unfinished jobs that read the input. */
  async active(id: InputId): Promise<JobId[]> {
    return await this.#deps.redis.smembers(this.#deps.keys.activeOfInput(id));
  }

  /**
   * Call this before an input is deleted. No job with it can be created for the next minute, which is longer than
   * a request that still saw it takes to create one.
   * @returns the unfinished jobs that read it. If there are any, nothing was changed
   */
  async beginDeletion(id: InputId): Promise<JobId[]> {
    const { redis, keys } = this.#deps;
    const scriptKeys = { input_jobs: keys.activeOfInput(id), input_deletion: keys.inputDeletion(id) };
    return (await beginDeletionScript(redis, scriptKeys, { seconds: DELETION_SECONDS })) as JobId[];
  }

  /**
   * Points a name at an adapter, unless it is being deleted. Each of the two leaves its mark before it looks for that of the other, so at least one sees
   * the other.
   * @throws ProductError `adapter_not_found`, `redis_unavailable`; errors of `point`
   */
  async whileNaming<Result>(id: AdapterId, point: () => Promise<Result>): Promise<Result> {
    const { redis, keys } = this.#deps;
    const [marks, mark] = [keys.namingOfInput(id), randomUUID()];
    const isBeingDeleted = await onRedis(async () => {
      const marked = redis.multi().sadd(marks, mark).expire(marks, DELETION_SECONDS).exists(keys.inputDeletion(id));
      return repliesOf(await marked.exec())[2] === 1;
    });
    try {
      if (isBeingDeleted) {
        throw new ProductError('adapter_not_found', `The adapter ${id} is being deleted. No name can point to it.`);
      }
      return await point();
    } finally {
      // Otherwise it expires.
      await redis.srem(marks, mark).catch(() => {});
    }
  }

  /** True while a name is being pointed at the adapter. Ask after {@link beginDeletion}. */
  async isBeingNamed(id: AdapterId): Promise<boolean> {
    return (await this.#deps.redis.scard(this.#deps.keys.namingOfInput(id))) > 0;
  }

  /** Allows jobs on a dataset again after it was uploaded again. */
  async allow(id: DatasetId): Promise<void> {
    await this.#deps.redis.del(this.#deps.keys.inputDeletion(id));
  }
}

/** The sizes of the adapters that unfinished jobs will produce. */
export class AdapterBytes {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** The maximum size of the job's adapter; 0 if there is no job. */
  async of(id: JobId): Promise<number> {
    return Number(await this.#deps.redis.hget(this.#deps.keys.job(id), 'adapter_bytes'));
  }

  /** The sum of the maximum sizes over the unfinished jobs: of the owner, and of all owners. */
  async reserved(owner: Owner): Promise<{ own: number; total: number }> {
    const { redis, keys } = this.#deps;
    const scriptKeys = { reserved_bytes: keys.reservedBytes };
    const [own, total] = (await reservedScript(redis, scriptKeys, { owner: owner ?? '' })) as [string, string];
    return { own: Number(own), total: Number(total) };
  }
}
