import { setImmediate } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';

/** @throws ProductError `cancelled` once the signal is aborted */
export function throwIfPlanningStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw planningStopped(signal);
}

/** Lets the event loop go on. @throws ProductError `cancelled` once the signal is aborted */
export async function giveTurn(signal: AbortSignal | undefined): Promise<void> {
  await setImmediate();
  throwIfPlanningStopped(signal);
}

export function planningStopped(signal: AbortSignal | undefined): ProductError {
  return new ProductError('cancelled', `Planning was stopped (${String(signal?.reason)}).`);
}
