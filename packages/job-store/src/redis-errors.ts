import { ProductError } from '@lorasmith/contracts';

/** Replies that speak of the state of the server, not of the command. */
const SERVER_TROUBLE =
  /^(LOADING|READONLY|OOM|MISCONF|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|WRONGPASS|BUSY)\b/;

/**
 * Runs Redis commands and turns what a missing or ailing Redis makes of them into one error.
 *
 * @throws ProductError `redis_unavailable`; a fault of the command itself is thrown as it is.
 */
export async function onRedis<Result>(run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof ProductError || !(error instanceof Error)) throw error;
    if (error.name === 'ReplyError' && !SERVER_TROUBLE.test(error.message)) throw error;
    if (error instanceof TypeError || error instanceof SyntaxError || error instanceof RangeError) throw error;
    throw new ProductError('redis_unavailable', 'Redis cannot be reached. Try again once it is back.', {
      cause: error,
    });
  }
}

/** The replies of a pipeline or transaction. @throws the first error among them */
export function repliesOf(results: [Error | null, unknown][] | null): unknown[] {
  if (results === null) throw new Error('The transaction was not run.');
  return results.map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
}
