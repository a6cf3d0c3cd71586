import { setImmediate } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';

/**
 * Why a training stops before it is complete: the reason of its signal. {@link SavePolicy} says which of them save a
 * checkpoint.
 *
 * - `cancel`: the user cancelled the job.
 * - `shutdown`: the worker shuts down.
 * - `time-limit`: the job has used up its time.
 * - `lost-lock`: another worker may have the job, so nothing may be written any more.
 */
export type StopReason = 'cancel' | 'shutdown' | 'time-limit' | 'lost-lock';

/**
 * Lets messages in between two micro-batches: the engine's calls are synchronous.
 * @throws ProductError cancelled when the signal is aborted by then
 */
export async function yieldToEventLoop(signal: AbortSignal): Promise<void> {
  await setImmediate();
  throwIfStopped(signal);
}

/** @throws ProductError cancelled when the signal is aborted */
export function throwIfStopped(signal: AbortSignal): void {
  if (signal.aborted) throw new ProductError('cancelled', `Training was stopped (${String(signal.reason)}).`);
}
