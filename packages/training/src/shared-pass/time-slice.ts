import { ProductError } from '@lorasmith/contracts';

/**
 * Does one bounded call of the engine in a time slice of this job. Other jobs of the process, and its messages, continue before and after it.
 * @param tokens what it costs, in tokens of a pass that trains: a forward pass alone costs half of its own
 */
export type InTimeSlice = <Result>(tokens: number, work: () => Result) => Promise<Result>;

/** The cost of a forward pass, as a share of that of a pass that trains. */
export const FORWARD_SHARE = 0.5;

/**
 * The reason of the signal of a training that stops before it is complete. SavePolicy says which of them save a checkpoint.
 *
 * - `cancel`: the user cancelled the job.
 * - `shutdown`: the worker shuts down.
 * - `time-limit`: the job has used up its time.
 * - `lost-lock`: another worker may have the job, so nothing may be written any more.
 */
export type StopReason = 'cancel' | 'shutdown' | 'time-limit' | 'lost-lock';

/** Checks that a job is to continue. @throws ProductError cancelled when the signal is aborted */
export function throwIfStopped(signal: AbortSignal): void {
  if (signal.aborted) throw new ProductError('cancelled', `Training was stopped (${String(signal.reason)}).`);
}
