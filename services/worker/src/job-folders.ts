import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { JobId } from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/job-store';

const JOB_ID = /^job_[0-9a-z]+$/;

/** What a job keeps on disk while it is not done: `jobs/<job>/checkpoints`, and one output folder per attempt. */
export interface JobFolders {
  /** Makes the folders of an attempt, its output folder empty. */
  prepare(attempt: JobAttempt): Promise<{ checkpointFolder: string; outputFolder: string }>;
  /** Removes what only the attempt needed. */
  removeAttempt(attempt: JobAttempt): Promise<void>;
  /** Removes all of the job, its checkpoints too. */
  removeJob(id: JobId): Promise<void>;
  /**
   * Removes the folders of jobs that were deleted, or that ended well or were cancelled by a worker that died before it
   * had tidied up. A failed job keeps its checkpoints.
   * @returns how many
   */
  sweep(store: Pick<JobStore, 'getJob'>): Promise<number>;
}

export function createJobFolders({ dataDir }: { dataDir: string }): JobFolders {
  const root = path.join(dataDir, 'jobs');
  const folderOf = (id: JobId) => {
    // What comes from the queue must not lead out of the folder.
    if (!JOB_ID.test(id)) throw new Error(`createJobFolders: ${JSON.stringify(id)} is no id of a job`);
    return path.join(root, id);
  };
  const outputOf = ({ job, number }: JobAttempt) => path.join(folderOf(job.id), `attempt-${number}`);
  const removeJob = (id: JobId) => rm(folderOf(id), { recursive: true, force: true });

  return {
    async prepare(attempt) {
      const checkpointFolder = path.join(folderOf(attempt.job.id), 'checkpoints');
      const outputFolder = outputOf(attempt);
      await mkdir(checkpointFolder, { recursive: true });
      await rm(outputFolder, { recursive: true, force: true });
      await mkdir(outputFolder);
      return { checkpointFolder, outputFolder };
    },
    removeAttempt: (attempt) => rm(outputOf(attempt), { recursive: true, force: true }),
    removeJob: async (id) => await removeJob(id),
    async sweep(store) {
      await mkdir(root, { recursive: true });
      let removed = 0;
      for (const id of await readdir(root)) {
        if (!JOB_ID.test(id)) continue;
        const job = await store.getJob(id);
        if (job !== null && job.status !== 'succeeded' && job.status !== 'cancelled') continue;
        await removeJob(id);
        removed++;
      }
      return removed;
    },
  };
}
