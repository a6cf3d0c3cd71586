/**
 * The workers that started a job, by its events.
 *
 * @param {any[]} events of a job
 * @returns {string[]} their names, in order
 */
export function startsOf(events) {
  return events.filter(({ type }) => type === 'job-started').map(({ data }) => data.worker);
}

/**
 * Checks that no step was trained twice: each worker continued where the one before had ended. Steps are recorded about once a second, so
 * some are not among the events.
 *
 * @param {any[]} events of a job that has succeeded
 * @param {number} steps that it has
 * @throws {Error} naming them
 */
export function noStepTwice(events, steps) {
  const trained = events.filter(({ type }) => type === 'step-finished').map(({ data }) => data.step);
  const isRising = trained.every((step, i) => i === 0 || step > trained[i - 1]);
  if (!isRising || trained.at(-1) !== steps) throw new Error(`its steps were ${trained.join(', ')}, of ${steps}`);
}
