/** The error of one part of our results. */
export interface Comparison {
  /** The compared part, for instance `logits`, or `gradient of model.layers.0.self_attn.q_proj.lora_A`. */
  part: string;
  /** The largest error, as `measure` says. */
  error: number;
  measure: 'absolute' | 'relative to the largest' | 'relative in norm';
  tolerance: number;
}

export function isWithin({ error, tolerance }: Comparison): boolean {
  // NaN is never within a tolerance.
  return error <= tolerance;
}

type Numbers = ArrayLike<number>;

function checkLengths(actual: Numbers, expected: Numbers): void {
  if (actual.length !== expected.length) throw new Error(`${actual.length} numbers to compare with ${expected.length}`);
}

/** The greatest |actual - expected|; NaN when any number is. */
export function greatestDifference(actual: Numbers, expected: Numbers): number {
  checkLengths(actual, expected);
  let greatest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= greatest)) greatest = difference;
    if (Number.isNaN(greatest)) return greatest;
  }
  return greatest;
}

/** {@link greatestDifference} over the greatest |expected|; undivided if all expected numbers are zero. */
export function differenceByLargest(actual: Numbers, expected: Numbers): number {
  const largest = Array.from(expected).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return greatestDifference(actual, expected) / (largest || 1);
}

/** |actual - expected| over |expected|, Euclidean norms. */
export function differenceByNorm(actual: Numbers, expected: Numbers): number {
  checkLengths(actual, expected);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
}
