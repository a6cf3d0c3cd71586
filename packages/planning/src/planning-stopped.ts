import { ProductError } from '@lorasmith/contracts';

/** @throws ProductError `cancelled` once the signal is aborted */
export function throwIfPlanningStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw planningStopped(signal);
}

export function planningStopped(signal: AbortSignal | undefined): ProductError {
  return new ProductError('cancelled', `Planning was stopped (${String(signal?.reason)}).`);
}
