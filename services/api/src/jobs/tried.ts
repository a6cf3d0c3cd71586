import { ProductError } from '@lorasmith/contracts';

/** A result, or why there is none. */
export type Tried<Result> = { result: Result } | { error: ProductError };

/** @throws ProductError that of the trial */
export function resultOf<Result>(tried: Tried<Result>): Result {
  if ('result' in tried) return tried.result;
  throw tried.error;
}

/** The result of the work, or the ProductError that it throws. */
export function trying<Result>(work: () => Result): Tried<Result> {
  try {
    return { result: work() };
  } catch (error) {
    if (error instanceof ProductError) return { error };
    throw error;
  }
}
