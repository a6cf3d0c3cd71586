import { measured } from './measured.mjs';

/**
 * A job with its estimate: of some rounds that measure the machine and then train, the one with the median error. A machine that
 * others share can change its speed between two rounds.
 *
 * @param {object} job @param {number} rounds odd
 */
export async function medianRound(job, rounds) {
  const engine = { kind: 'cpu', card: null, self_test: null };
  const results = [];
  for (let round = 0; round < rounds; round++) {
    const { profile } = await measured('machine', { precision: 'bfloat16', rows: 4, length: 128, repeats: 1 });
    const machine = { ...profile, worker: 'bench', measured_at: new Date().toISOString(), engine };
    results.push(await measured('train', { ...job, machine }));
  }
  const errorOf = (/** @type {any} */ result) => result.estimate.total_seconds / result.seconds;
  results.sort((a, b) => errorOf(a) - errorOf(b));
  return { ...results[(rounds - 1) / 2], errors: results.map(errorOf) };
}
