export * from './model-files.js';
export * from './model-source.js';
export * from './push-model.js';
