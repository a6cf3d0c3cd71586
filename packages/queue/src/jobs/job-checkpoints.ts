import {
  type Checkpoint,
  type CheckpointReference,
  ENDED_STATUSES,
  type JobId,
  UNFINISHED_STATUSES,
} from '@lorasmith/contracts';
import type { StoreDeps } from '../keys.js';
import { repliesOf } from '../redis/redis-errors.js';
import { jobMissing, readInputs } from './job-record.js';
import { changeRecord } from './record-change.js';

/** Records read at once. */
const BATCH = 1_000;

/** The checkpoints that are stored, according to the records. */
export class JobCheckpoints {
  readonly #deps: StoreDeps;

  constructor(deps: StoreDeps) {
    this.#deps = deps;
  }

  /** Newest first. @throws ProductError `job_not_found` */
  async list(id: JobId): Promise<Checkpoint[]> {
    const { redis, keys } = this.#deps;
    const [dataset, checkpoints] = await redis.hmget(keys.job(id), 'dataset', 'checkpoints');
    if (!dataset) throw jobMissing(id);
    return checkpoints ? (JSON.parse(checkpoints) as Checkpoint[]) : [];
  }

  /** Records that an ended job has no checkpoints any more. @returns false, without a change, if it has not ended */
  async forget(id: JobId): Promise<boolean> {
    const job = await readInputs(this.#deps, id);
    if (job === null) return false;
    const answer = await changeRecord(this.#deps, job, null, ENDED_STATUSES, { fields: [['checkpoints', '[]']] });
    return answer === 'done';
  }

  /** The jobs whose checkpoints are being published by unfinished jobs. */
  async jobsBeingPublished(): Promise<Set<JobId>> {
    const { redis, keys } = this.#deps;
    const sources = new Set<JobId>();
    for (const status of UNFINISHED_STATUSES) {
      const ids = (await redis.zrange(keys.withStatus(status), '0', '-1')) as JobId[];
      for (let from = 0; from < ids.length; from += BATCH) {
        const look = redis.pipeline();
        for (const id of ids.slice(from, from + BATCH)) look.hmget(keys.job(id), 'kind', 'checkpoint');
        for (const [kind, checkpoint] of repliesOf(await look.exec()) as (string | null)[][]) {
          if (kind === 'publish-checkpoint') sources.add((JSON.parse(checkpoint!) as CheckpointReference).job);
        }
      }
    }
    return sources;
  }
}
