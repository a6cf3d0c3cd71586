import { ProductError } from '@lorasmith/contracts';
import type { Share } from './fair-shares.js';
import type { MicroBatch, OwnLoss } from './joined-pass.js';

/** A job's access to the passes. */
export interface Participant {
  /**
   * Takes part in the next pass that the job is chosen for.
   * @throws ProductError cancelled when the job is stopped before it; and what the engine throws
   */
  lossAndGradients(microBatch: MicroBatch): Promise<OwnLoss>;
  /**
   * Does one call of the engine that is not shared, such as a batch of an evaluation, in a time slice of the job.
   * @param tokens what it costs, in tokens of a pass that trains; a forward pass alone costs half of its own
   * @param work synchronous, and bounded: no other job computes meanwhile
   * @throws as {@link lossAndGradients}
   */
  inTimeSlice: InTimeSlice;
  /**
   * Does work that awaits files, threads and time slices. While passes run, they leave it some time between them. Otherwise only one
   * file operation would complete per pass.
   * @param headStartMs time that it gets at once. @defaultValue 0
   */
  concurrently<Result>(work: () => Promise<Result>, headStartMs?: number): Promise<Result>;
  /** The job needs no more passes. */
  leave(): void;
}

export interface JoinOptions {
  /** @defaultValue the same as any other job */
  share?: Share | undefined;
  /** Its reason is a StopReason. Whatever waits is then cancelled. @defaultValue never */
  signal?: AbortSignal | undefined;
}

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
