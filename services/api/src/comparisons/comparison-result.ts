import type { ComparisonResult, ComparisonRow } from '@lorasmith/contracts';

/** The quantile of the normal distribution for 95 %. */
const Z = 1.959963984540054;
/** Reasons of failed rows that a result lists, and their characters. */
const MAX_REASONS = 5;
const MAX_REASON_CHARACTERS = 300;

/** The result of the rows that are finished. It depends on nothing else. */
export function resultOf(rows: readonly ComparisonRow[]): ComparisonResult {
  const having = (outcome: ComparisonRow['outcome']) => rows.filter((row) => row.outcome === outcome).length;
  const [wins, losses, ties] = [having('win'), having('loss'), having('tie')];
  const judged = wins + losses + ties;
  const asked = rows.filter(({ verdicts }) => verdicts.every((verdict) => verdict !== null));
  const orderDecided = asked.filter(isDecidedByOrder).length;
  const interval = intervalOf({ wins, losses, ties });
  const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);
  return {
    rows: judged,
    wins,
    losses,
    ties,
    identical: rows.filter(({ outcome, verdicts }) => outcome === 'tie' && verdicts[0] === null).length,
    failed: having('failed'),
    win_rate: judged === 0 ? null : (wins + ties / 2) / judged,
    interval,
    verdict: interval === null ? 'undecided' : verdictOf(interval),
    position_bias: asked.length === 0 ? null : orderDecided / asked.length,
    order_decided: orderDecided,
    tokens: {
      answers: [0, 1].map((side) => sum(rows.map(({ answers }) => answers[side]?.tokens ?? 0))),
      judge: sum(rows.flatMap(({ verdicts }) => verdicts.map((verdict) => verdict?.tokens ?? 0))),
    },
    failures: failuresOf(rows),
  };
}

/** The outcome of two verdicts. As in MT-Bench (https://arxiv.org/abs/2306.05685), a row is won only if both orders agree. */
export function outcomeOf([first, second]: ComparisonRow['verdicts']): 'win' | 'loss' | 'tie' {
  if (first == null || first.prefers !== second?.prefers || first.prefers === 'tie') return 'tie';
  return first.prefers === 'a' ? 'win' : 'loss';
}

/** True if the answer in the same place was preferred in both orders. */
function isDecidedByOrder({ verdicts: [first, second] }: ComparisonRow): boolean {
  const preferred = [first?.prefers, second?.prefers];
  return !preferred.includes('tie') && preferred[0] !== preferred[1];
}

/**
 * Wilson's score interval (Probable inference, the law of succession, and statistical inference, JASA 22, 1927) of the wins among the
 * rows that are no ties, on the scale of the win rate, in which a tie counts one half. It has one half in it if Wilson's has.
 */
function intervalOf({ wins, losses, ties }: { wins: number; losses: number; ties: number }): [number, number] | null {
  const decided = wins + losses;
  if (decided === 0) return null;
  const share = wins / decided;
  const scale = 1 + Z ** 2 / decided;
  const center = (share + Z ** 2 / (2 * decided)) / scale;
  const half = (Z / scale) * Math.sqrt((share * (1 - share)) / decided + Z ** 2 / (4 * decided ** 2));
  const onScale = (value: number) => 0.5 + (decided / (decided + ties)) * (clamped(value) - 0.5);
  return [onScale(center - half), onScale(center + half)];
}

/** Rounding can leave the range of shares. */
function clamped(value: number): number {
  return Math.min(1, Math.max(0, value));
}

function verdictOf([low, high]: readonly [number, number]): ComparisonResult['verdict'] {
  if (low > 0.5) return 'a';
  return high < 0.5 ? 'b' : 'undecided';
}

function failuresOf(rows: readonly ComparisonRow[]): ComparisonResult['failures'] {
  const counts = new Map<string, number>();
  for (const { outcome, error } of rows) {
    if (outcome !== 'failed') continue;
    const reason = (error ?? '').slice(0, MAX_REASON_CHARACTERS);
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  const reasons = [...counts].map(([reason, count]) => ({ reason, rows: count }));
  return reasons.sort((one, other) => other.rows - one.rows).slice(0, MAX_REASONS);
}
