export interface SteadyOptions {
  /** Runs that are not measured. */
  warmUps: number;
  repeats: number;
  /** The time in nanoseconds. @defaultValue a monotonic clock */
  now?: () => bigint;
}

/** The median time of a run, once it has run for a while. */
export function steadySeconds(
  run: () => void,
  { warmUps, repeats, now = process.hrtime.bigint }: SteadyOptions,
): number {
  for (let i = 0; i < warmUps; i++) run();
  const seconds = Array.from({ length: repeats }, () => {
    const start = now();
    run();
    return Number(now() - start) / 1e9;
  });
  return seconds.sort((a, b) => a - b)[Math.floor(repeats / 2)]!;
}
