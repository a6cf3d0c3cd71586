export interface SteadyOptions {
  /** Runs that are not measured. */
  warmUps: number;
  /** Measured runs, at least. */
  repeats: number;
  /** The time that they take together, at least. @defaultValue 0 */
  leastSeconds?: number;
  /** The place of the time that counts among the sorted ones, from 0, the shortest, to 1. @defaultValue 0.5: the median */
  quantile?: number;
  /** The time in nanoseconds. @defaultValue a monotonic clock */
  now?: () => bigint;
}

/** The median time of a run, or another quantile, once it has run for a while. */
export function steadySeconds(
  run: () => void,
  { warmUps, repeats, leastSeconds = 0, quantile = 0.5, now = process.hrtime.bigint }: SteadyOptions,
): number {
  for (let i = 0; i < warmUps; i++) run();
  const seconds: number[] = [];
  let all = 0;
  while (seconds.length < repeats || all < leastSeconds) {
    const start = now();
    run();
    const taken = Number(now() - start) / 1e9;
    seconds.push(taken);
    all += taken;
  }
  return seconds.sort((a, b) => a - b)[Math.min(seconds.length - 1, Math.floor(quantile * seconds.length))]!;
}
