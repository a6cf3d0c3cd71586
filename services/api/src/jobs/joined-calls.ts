/** Calls of the same name at the same time are one: the later ones get what the first one gets. */
export type JoinedCalls = <Result>(name: string, call: () => Promise<Result>) => Promise<Result>;

/** For what takes long and is asked for again by clients whose patience ended before. */
export function createJoinedCalls(): JoinedCalls {
  const underWay = new Map<string, Promise<unknown>>();
  return <Result>(name: string, call: () => Promise<Result>) => {
    const first = underWay.get(name) as Promise<Result> | undefined;
    if (first !== undefined) return first;
    const made = call().finally(() => underWay.delete(name));
    underWay.set(name, made);
    return made;
  };
}
