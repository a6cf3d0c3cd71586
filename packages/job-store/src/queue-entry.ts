import type { Job, JobId } from '@lorasmith/contracts';

/**
 * The name of a job in the queue. Whenever it is resumed it has another one: what the queue still knows of the time
 * before, an entry that failed or one whose worker has yet to let go, is then not taken for it.
 */
export function queueEntryOf({ id, resumes }: Pick<Job, 'id' | 'resumes'>): string {
  return resumes === 0 ? id : `${id}.${resumes}`;
}

/** The opposite of {@link queueEntryOf}. */
export function jobOfQueueEntry(entry: string): { id: JobId; resumes: number } {
  const [id = '', resumes = '0'] = entry.split('.');
  return { id, resumes: Number(resumes) };
}
