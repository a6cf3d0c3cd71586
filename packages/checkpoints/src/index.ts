export * from './checkpoint.js';
export { type CheckpointDescription, describeCheckpoint } from './checkpoint-file.js';
export {
  checkpointBytes,
  checkpointSteps,
  latestCheckpoint,
  listCheckpoints,
  readCheckpoint,
  removeIncomplete,
  type SaveOptions,
  saveCheckpoint,
} from './checkpoint-folder.js';
