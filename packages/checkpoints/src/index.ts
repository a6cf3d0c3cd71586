export * from './checkpoint.js';
export { type CheckpointDescription, describeCheckpoint } from './checkpoint-file.js';
export {
  checkpointBytes,
  checkpointSteps,
  latestCheckpoint,
  listCheckpoints,
  readCheckpoint,
  removeHalfWritten,
  type SaveOptions,
  saveCheckpoint,
} from './checkpoint-folder.js';
