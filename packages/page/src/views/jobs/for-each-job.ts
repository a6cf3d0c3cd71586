import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';

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
