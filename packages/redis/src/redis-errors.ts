import { ProductError } from '@lorasmith/contracts';

/** Errors caused by the state of the server, not by the command. */
const SERVER_ERROR =
  /^(LOADING|READONLY|OOM|MISCONF|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|WRONGPASS|BUSY)\b/;

/**
 * Runs Redis commands and turns every failure of an unavailable Redis into one error.
 *
 * @throws ProductError `redis_unavailable`; an error in the command itself is thrown unchanged
 */
export async function onRedis<Result>(run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof ProductError || !(error instanceof Error)) throw error;
    if (error.name === 'ReplyError' && !SERVER_ERROR.test(error.message)) throw error;
    if (error instanceof TypeError || error instanceof SyntaxError || error instanceof RangeError) throw error;
    throw new ProductError('redis_unavailable', 'Redis cannot be reached. Try again once it is back.', {
      cause: error,
    });
  }
}

/** The replies of a pipeline or transaction. @throws the first error in it */
export function repliesOf(results: [Error | null, unknown][] | null): unknown[] {
  if (results === null) throw new Error('The transaction was not run.');
  return results.map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
}
