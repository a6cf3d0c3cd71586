export type { HubSettings } from './hub/hub-fetch.js';
export { bucketPlace, type ModelPlace, modelsFolderPlace } from './model-place.js';
export type { PullLimits } from './pull-model.js';
export { createPullStore, type PullStore } from './pull-store.js';
export { type Puller, type PullerOptions, startPuller } from './puller.js';
