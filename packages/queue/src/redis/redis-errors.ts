import { ProductError } from '@lorasmith/contracts';

/** Errors caused by the state of the server, not by the command. */
const SERVER_ERROR = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|WRONGPASS|BUSY)\b/;

/** Why Redis takes no changes, although it answers. Within a script, an older Redis has the name further on. */
const WITHOUT_SPACE = /\b(MISCONF|OOM)\b/;
const WITHOUT_SPACE_MESSAGES: Readonly<Record<string, string>> = {
  MISCONF:
    'Redis cannot write to its disk, so it takes no changes. Free some space there; the log of Redis has the reason.',
  OOM: 'Redis has reached its limit of memory (maxmemory), so it takes no changes. Raise it, or delete ended jobs.',
};

/**
 * Runs Redis commands and turns every failure of an unavailable Redis into one error.
 *
 * @throws ProductError `redis_unavailable`; `storage_full` if Redis answers and has no space; an error in the command itself is
 * thrown unchanged
 */
export async function onRedis<Result>(run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof ProductError || !(error instanceof Error)) throw error;
    if (error.name === 'ReplyError') {
      const full = WITHOUT_SPACE_MESSAGES[WITHOUT_SPACE.exec(error.message)?.[1] ?? ''];
      if (full !== undefined) throw new ProductError('storage_full', full, { cause: error });
      if (!SERVER_ERROR.test(error.message)) throw error;
    }
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

/** The public members of a class, which a plain object may have as well. */
export type Public<Class> = Pick<Class, keyof Class>;

/**
 * The public methods of an object, with every failure of an unavailable Redis turned into one error.
 *
 * @param unguarded - Methods that stay as they are: those whose result is no promise, and those that run work of their caller, whose errors are
 * not of Redis. @defaultValue none
 */
export function guarded<Instance extends object>(
  instance: Instance,
  unguarded: readonly (keyof Instance)[] = [],
): Public<Instance> {
  const methods: Record<string, unknown> = {};
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(instance))) {
    const member = instance[name as keyof Instance];
    if (name === 'constructor' || typeof member !== 'function') continue;
    methods[name] = unguarded.includes(name as keyof Instance)
      ? member.bind(instance)
      : (...args: unknown[]) => onRedis(async () => (await member.apply(instance, args)) as unknown);
  }
  return methods as Public<Instance>;
}
