import { ProductError } from '@lorasmith/contracts';

/** @throws ProductError `cancelled` once the signal is aborted */
export function throwIfPlanningStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new ProductError('cancelled', `Planning was stopped (${String(signal.reason)}).`);
}
