export { type AskOptions, askChild, readChild } from './ask-child.js';
export {
  type Child,
  type ChildExit,
  type ChildMessage,
  type ChildProgram,
  type KillCause,
  type StartChildOptions,
  startChild,
} from './child.js';
export {
  type CudaError,
  cudaErrorIn,
  type ExitExplanation,
  endsCudaContext,
  explainExit,
  isUnloadableKernel,
  NO_GPU_EXIT_CODE,
} from './explain-exit.js';
export {
  answerParent,
  childOutput,
  HEARTBEAT_MS,
  type ParentChannel,
  type ServeParentOptions,
  serveParent,
} from './serve-parent.js';
