/**
 * Does one bounded call of the engine when it is this job's turn: other jobs of the process, and its messages, go on before it
 * and after it.
 * @param tokens what it costs, in tokens of a pass that trains: a forward pass alone costs half of its own
 */
export type PassTurn = <Result>(tokens: number, work: () => Result) => Promise<Result>;

/** The cost of a forward pass, as a share of that of a pass that trains. */
export const FORWARD_SHARE = 0.5;
