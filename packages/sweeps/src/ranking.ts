import type { SweepDirection } from '@lorasmith/contracts';

/**
 * The order of results, the best first. What has no result, or one that is not a number, is left out. Of equal ones the earlier
 * is the better, so that every process comes to the same order.
 *
 * @returns indices of `results`
 */
export function rankingOf(results: readonly (number | null)[], direction: SweepDirection): number[] {
  const sign = direction === 'min' ? 1 : -1;
  return results
    .map((result, index) => ({ result, index }))
    .filter((one): one is { result: number; index: number } => one.result !== null && Number.isFinite(one.result))
    .sort((one, other) => sign * (one.result - other.result) || one.index - other.index)
    .map(({ index }) => index);
}
