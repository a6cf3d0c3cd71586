import {
  type Checkpoint,
  type CheckpointReference,
  ENDED_STATUSES,
  type JobId,
  ProductError,
  UNFINISHED_STATUSES,
} from '@lorasmith/contracts';
import { repliesOf } from '../redis/redis-errors.js';
import type { StoreDeps } from '../store-deps.js';
import { readInputs } from './job-record.js';
import { changeRecord } from './record-change.js';

/** Records read at once. */
const BATCH = 1_000;

/** The checkpoints that are stored, according to the records. */
export interface JobCheckpoints {
  /** Newest first. @throws ProductError `job_not_found` */
  list(id: JobId): Promise<Checkpoint[]>;
  /** Records that an ended job has no checkpoints any more. @returns false, without a change, if it has not ended */
  forget(id: JobId): Promise<boolean>;
  /** The jobs whose checkpoints are being published by unfinished jobs. */
  jobsBeingPublished(): Promise<Set<JobId>>;
}

export function createJobCheckpoints(deps: StoreDeps): JobCheckpoints {
  const { redis, keys } = deps;
  return {
    async list(id) {
      const [dataset, checkpoints] = await redis.hmget(keys.job(id), 'dataset', 'checkpoints');
      if (!dataset) throw new ProductError('job_not_found', `There is no job ${id}.`);
      return checkpoints ? (JSON.parse(checkpoints) as Checkpoint[]) : [];
    },
    async forget(id) {
      const job = await readInputs(deps, id);
      if (job === null) return false;
      const answer = await changeRecord(deps, job, null, ENDED_STATUSES, {
        fields: [['checkpoints', '[]']],
      });
      return answer === 'done';
    },
    async jobsBeingPublished() {
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
    },
  };
}
