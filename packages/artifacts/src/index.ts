export {
  adapterNotFound,
  brokenAdapter,
  listingOf,
  readManifest,
  readManifestOfFolder,
  writeManifest,
} from './adapters/manifest.js';
export { adapterCard, type CardContent, derivedCard } from './adapters/model-card.js';
export * from './aliases/alias-store.js';
export type {
  CheckpointAdapter,
  CheckpointDescription,
  CheckpointProgress,
  CheckpointState,
  EvaluationProgress,
} from './checkpoints/checkpoint-file.js';
export {
  checkpointBytes,
  checkpointSteps,
  latestCheckpoint,
  listCheckpoints,
  readCheckpoint,
  removeIncomplete,
  type SaveOptions,
  saveCheckpoint,
} from './checkpoints/checkpoint-folder.js';
export * from './checkpoints/run-inputs.js';
export { datasetIdOf, datasetNotFound, readDataset, writeDataset } from './datasets/dataset-record.js';
export * from './own-details.js';
export { publishSnapshot, readSnapshot, type SnapshotRecord } from './snapshots/snapshot.js';
