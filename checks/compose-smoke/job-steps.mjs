/**
 * What the events of a job say about its steps.
 *
 * @param {any[]} events of a job
 * @returns {string[]} the workers that started it, in order
 */
export function startsOf(events) {
  return events.filter(({ type }) => type === 'job-started').map(({ data }) => data.worker);
}

/**
 * Checks that no step was trained twice and none is missing: each worker continued where the one before had ended.
 *
 * @param {any[]} events of a job that has succeeded
 * @param {number} steps that it has
 * @throws {Error} naming them
 */
export function everyStepOnce(events, steps) {
  const trained = events.filter(({ type }) => type === 'step-finished').map(({ data }) => data.step);
  const expected = Array.from({ length: steps }, (_, i) => i + 1);
  if (trained.join() !== expected.join()) throw new Error(`its steps were ${trained.join(', ')}, of ${steps}`);
}
