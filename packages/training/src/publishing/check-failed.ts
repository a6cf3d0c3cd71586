import { ProductError } from '@lorasmith/contracts';

/** The adapter that would be published differs from the trained one. */
export function checkFailed(message: string): ProductError {
  return new ProductError('adapter_check_failed', `${message} The adapter was not published.`);
}

/**
 * @param difference - Of the log-probabilities, as a root mean square.
 * @throws ProductError adapter_check_failed when it is above the bound
 */
export function checkDifference(how: string, difference: number, bound: number): void {
  // Not `>`: NaN must fail.
  if (difference <= bound) return;
  const differ = `differ by ${difference.toPrecision(3)} from those of the trained one; at most ${bound.toPrecision(3)} comes from rounding`;
  throw checkFailed(`The log-probabilities of the adapter ${how} ${differ}.`);
}
