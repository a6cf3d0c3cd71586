/**
 * Does one bounded call of the engine when it is this job's turn: other jobs of the process, and its messages, go on before it
 * and after it.
 * @param tokens that the call computes
 */
export type Turn = <Result>(tokens: number, work: () => Result) => Promise<Result>;
