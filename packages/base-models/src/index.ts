export { bucketDestination, type ModelDestination, modelsFolderDestination } from './pulls/model-destination.js';
export type { PullLimits } from './pulls/pull-model.js';
export { createPullStore, type PullStore } from './pulls/pull-store.js';
export { type Puller, type PullerOptions, startPuller } from './pulls/puller.js';
export * from './sources/model-source.js';
