import type { SweepDirection } from '@lorasmith/contracts';
import { rankingOf } from './ranking.js';

// Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): all variants train for the same number of steps, the better half goes on for
// as many steps again, and so on, until one is left.

/** The state of a variant at a rung. */
export interface AtRung {
  /** `waiting`: it has come to the rung and goes no further by itself. `ended`: its job has ended, with a result or without. */
  state: 'on-the-way' | 'waiting' | 'ended';
  /** The metric at the rung; of one that has ended, its last. Null: none. */
  metric: number | null;
}

/** The step of a rung, counted from 0: each is at twice as many steps as the one before. */
export function stepOfRung(firstSteps: number, rung: number): number {
  return firstSteps * 2 ** rung;
}

/**
 * The variants that go on from a rung: the better half, rounded up. One without a metric does not.
 *
 * @param variants - Those that the rung before has let through, by their index
 * @returns indices in ascending order; null while one of them has not come to the rung, or once none goes further by itself
 */
export function decideRung(variants: ReadonlyMap<number, AtRung>, direction: SweepDirection): number[] | null {
  const entries = [...variants];
  const is = (wanted: AtRung['state']) => entries.some(([, { state }]) => state === wanted);
  if (is('on-the-way') || !is('waiting')) return null;
  const ranking = rankingOf(
    entries.map(([, { metric }]) => metric),
    direction,
  );
  const kept = ranking.slice(0, Math.ceil(entries.length / 2));
  return kept.map((index) => entries[index]![0]).sort((one, other) => one - other);
}

/**
 * The steps that all variants do together by halving, as a share of what they would do to their ends.
 * @param steps - Of each of them, to its end
 */
export function shareOfHalving(variants: number, steps: number, firstSteps: number): number {
  let [left, done, sum] = [variants, 0, 0];
  for (let rung = 0; left > 1 && stepOfRung(firstSteps, rung) < steps; rung++) {
    const step = stepOfRung(firstSteps, rung);
    sum += left * (step - done);
    [left, done] = [Math.ceil(left / 2), step];
  }
  return (sum + left * (steps - done)) / (variants * steps);
}
