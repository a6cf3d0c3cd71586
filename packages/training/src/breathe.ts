import { setImmediate } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';

/**
 * Lets messages in between two micro-batches: the engine's calls are synchronous.
 * @throws ProductError cancelled when the signal is aborted by then
 */
export async function breathe(signal: AbortSignal): Promise<void> {
  await setImmediate();
  throwIfStopped(signal);
}

/** @throws ProductError cancelled when the signal is aborted */
export function throwIfStopped(signal: AbortSignal): void {
  if (signal.aborted) throw new ProductError('cancelled', `Training was stopped (${String(signal.reason)}).`);
}
