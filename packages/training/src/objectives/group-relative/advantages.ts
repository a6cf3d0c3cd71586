import type { GroupRelativeObjective } from '@lorasmith/contracts';

/** Added to a standard deviation before it divides, as in TRL. */
const EPSILON = 1e-4;
/** Smaller standard deviations are rounding, as for `torch.isclose`. */
const ZERO = 1e-8;

/** The advantages of the answers of a step over the others to the same prompt. */
export interface Advantages {
  /** `[answers]` */
  values: Float64Array;
  /** `[groups]` whether all rewards of a group are the same, so that it trains nothing. */
  isFlat: boolean[];
}

/**
 * Rewards less the mean of their group, divided by a standard deviation (with Bessel's correction): of the group, of all rewards, or not.
 * TRL 1.16's `sum_then_normalize`.
 * @param rewards `[groups × size]`, group by group, all finite
 */
export function advantagesOf(
  rewards: Float64Array,
  { group_size: size, scale_rewards: scale }: Pick<GroupRelativeObjective, 'group_size' | 'scale_rewards'>,
): Advantages {
  const ofAll = deviationOf(rewards);
  const values = new Float64Array(rewards.length);
  const isFlat: boolean[] = [];
  for (let first = 0; first < rewards.length; first += size) {
    const group = rewards.subarray(first, first + size);
    const mean = meanOf(group);
    const deviation = deviationOf(group);
    const divisor = { group: deviation + EPSILON, batch: ofAll + EPSILON, none: 1 }[scale];
    for (let answer = 0; answer < group.length; answer++) values[first + answer] = (group[answer]! - mean) / divisor;
    isFlat.push(deviation <= ZERO);
  }
  return { values, isFlat };
}

export function meanOf(numbers: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < numbers.length; i++) sum += numbers[i]!;
  return sum / numbers.length;
}

/** The standard deviation with Bessel's correction; 0 of a single number. */
export function deviationOf(numbers: ArrayLike<number>): number {
  if (numbers.length < 2) return 0;
  const mean = meanOf(numbers);
  let squares = 0;
  for (let i = 0; i < numbers.length; i++) squares += (numbers[i]! - mean) ** 2;
  return Math.sqrt(squares / (numbers.length - 1));
}
