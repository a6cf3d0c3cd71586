/** Losses the manifest keeps. */
const KEPT_LOSSES = 1000;

/** At most {@link KEPT_LOSSES} values at even distances, the first and the last among them. */
export function thinnedLosses(losses: ArrayLike<number>): number[] {
  if (losses.length <= KEPT_LOSSES) return Array.from(losses);
  const distance = (losses.length - 1) / (KEPT_LOSSES - 1);
  return Array.from({ length: KEPT_LOSSES }, (_, i) => losses[Math.round(i * distance)]!);
}
