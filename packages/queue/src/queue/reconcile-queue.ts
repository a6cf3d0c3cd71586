import { ACTIVE_STATUSES, type JobFailure, type JobId } from '@lorasmith/contracts';
import { readInputs } from '../jobs/job-record.js';
import { cancelled, changeRecord, failed, type JobWithInputs } from '../jobs/record-change.js';
import type { StoreDeps } from '../keys.js';
import { bullIdOf, type JobQueue } from './job-queue.js';

export interface Reconciled {
  /** Jobs that were missing from the queue and were added again. */
  requeued: JobId[];
  /** Jobs that the queue had given up and that are now failed. */
  ended: JobId[];
}

/**
 * Makes the queue agree with the records, which are the source of truth, after a process died between the two writes: an
 * unfinished job that is missing from BullMQ is added again, unless it is paused, and one that BullMQ gave up fails.
 *
 * Both are safe if the job ends meanwhile: its record no longer allows the change, and a worker that receives an ended job
 * does nothing.
 */
export async function reconcileQueue(deps: StoreDeps & { queue: JobQueue }): Promise<Reconciled> {
  const { redis, keys, queue } = deps;
  const reconciled: Reconciled = { requeued: [], ended: [] };
  for (const status of ACTIVE_STATUSES) {
    for (const id of await redis.zrange(keys.withStatus(status), '0', '-1')) {
      const job = await readInputs(deps, id);
      const [resumes, token] = await redis.hmget(keys.job(id), 'resumes', 'attempt_token');
      // Deleted meanwhile.
      if (job === null || !resumes) continue;
      const bullId = bullIdOf({ id, resumes: Number(resumes) });
      const { state, reason } = await queue.stateOf(bullId);
      if (state === 'alive') continue;
      if (state === 'absent') {
        await queue.add(bullId);
        reconciled.requeued.push(id);
      } else if (await endAbandoned(deps, job, token || null, reason)) {
        reconciled.ended.push(id);
      }
    }
  }
  return reconciled;
}

/** @param token - Of the attempt that was given up; a job that was resumed meanwhile has none. */
async function endAbandoned(
  deps: StoreDeps,
  job: JobWithInputs,
  token: string | null,
  reason: string,
): Promise<boolean> {
  const failure: JobFailure = {
    code: 'trainer_crashed',
    message:
      'The worker of this job died too often. Its log has the cause, for instance too little memory. ' +
      `Fix the cause and resume the job.${reason ? ` The queue says: ${reason}.` : ''}`,
    details: [],
  };
  const answer = await changeRecord(deps, job, token, ACTIVE_STATUSES, { ...failed(failure), heedCancel: true });
  if (answer !== 'cancel-requested') return answer === 'done';
  return (await changeRecord(deps, job, token, ACTIVE_STATUSES, cancelled())) === 'done';
}
