type Numbers = ArrayLike<number>;

/** The greatest |actual - expected|. NaN if any number is NaN. Throws if the lengths differ. */
export function greatestDifference(actual: Numbers, expected: Numbers): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} numbers, ${expected.length} expected`);
  let greatest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= greatest)) greatest = difference;
    if (Number.isNaN(greatest)) return greatest;
  }
  return greatest;
}

/** {@link greatestDifference} divided by the greatest |expected|. NaN if all are zero, so that the check fails. */
export function differenceByLargest(actual: Numbers, expected: Numbers): number {
  const largest = Array.from(expected).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return greatestDifference(actual, expected) / largest;
}
