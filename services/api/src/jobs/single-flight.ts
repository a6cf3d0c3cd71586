/** Concurrent calls with the same key share one execution and its outcome. */
export type SingleFlight = <Result>(key: string, call: () => Promise<Result>) => Promise<Result>;

/** A single flight for slow work that impatient clients request again. */
export function createSingleFlight(): SingleFlight {
  const running = new Map<string, Promise<unknown>>();
  return <Result>(key: string, call: () => Promise<Result>) => {
    const current = running.get(key) as Promise<Result> | undefined;
    if (current !== undefined) return current;
    const started = call().finally(() => running.delete(key));
    running.set(key, started);
    return started;
  };
}
