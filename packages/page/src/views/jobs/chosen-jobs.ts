import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';

/** The maximum, which is the number of colours. */
export const MAX_COMPARED = 6;

const JOB_ID = /^job_[0-9a-z]{24}$/;

/** The jobs in the address: ids with commas between them. What is no id is left out. */
export function chosenJobs(text: string | null, most: number = MAX_COMPARED): string[] {
  const ids = (text ?? '').split(',').filter((id) => JOB_ID.test(id));
  return [...new Set(ids)].slice(0, most);
}

/** The chosen jobs with this one added, or removed if it was chosen. */
export function toggledJob(ids: readonly string[], id: string, most: number = MAX_COMPARED): string[] {
  return ids.includes(id) ? ids.filter((one) => one !== id) : [...ids, id].slice(0, most);
}

/** A job with which something could not be done, and why. */
export interface RefusedJob {
  id: string;
  message: string;
}

/** Jobs with which something is done at the same time. */
const AT_ONCE = 4;

/**
 * Does something with each of these jobs. What the service refuses for one does not keep it from the others.
 * @throws what no answer of the service is, such as the reason of an aborted signal
 */
export async function forEachJob(ids: readonly string[], act: (id: string) => Promise<unknown>): Promise<RefusedJob[]> {
  const refused = await mapWithConcurrency(ids, AT_ONCE, async (id): Promise<RefusedJob[]> => {
    try {
      await act(id);
      return [];
    } catch (error) {
      if (!(error instanceof ProductError)) throw error;
      return [{ id, message: error.message }];
    }
  });
  return refused.flat();
}
