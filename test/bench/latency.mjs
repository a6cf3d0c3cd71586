/**
 * Percentiles of times, in their unit.
 *
 * @typedef {{ count: number, p50: number, p99: number, worst: number }} Latency
 */

/** @param {number[]} times @returns {Latency} */
export function latencyOf(times) {
  const sorted = [...times].sort((one, other) => one - other);
  const at = (/** @type {number} */ share) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), worst: sorted.at(-1) ?? 0 };
}
