export * from './checkpoint.js';
export type { CheckpointDescription } from './checkpoint-file.js';
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
