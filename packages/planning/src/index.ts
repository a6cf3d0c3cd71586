export * from './dataset-row.js';
export * from './examples.js';
