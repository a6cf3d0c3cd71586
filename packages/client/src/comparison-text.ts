import type { ComparisonResult } from '@lorasmith/contracts';

/** A share of rows as a percentage with one decimal. */
export function shareText(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** The outcome of a comparison in words, which never say more than its interval does. @param names - of a and b */
export function verdictText({ verdict, rows }: ComparisonResult, [a, b]: readonly [string, string]): string {
  if (rows === 0) return 'no row was judged';
  if (verdict === 'undecided') return 'undecided, the rows do not show which is better';
  return `${verdict === 'a' ? a : b} is better`;
}
