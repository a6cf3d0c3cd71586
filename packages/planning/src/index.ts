export { chooseTargets } from './choose-targets.js';
export * from './dataset-row.js';
export * from './examples.js';
export { type Plan, type PlanJobOptions, planJob } from './plan-job.js';
export { MAX_LINE_BYTES } from './read-rows.js';
export { RowOrder, type StepRows } from './row-order.js';
export { SeededRandom } from './seeded-random.js';
