export { type AskOptions, askChild } from './ask-child.js';
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
  answerParent,
  childOutput,
  HEARTBEAT_MS,
  type ParentChannel,
  type ServeParentOptions,
  serveParent,
} from './child-side.js';
export { type CudaError, cudaErrorIn, endsCudaContext, isUnloadableKernel } from './cuda-error.js';
export { type ExitExplanation, explainExit, NO_GPU_EXIT_CODE } from './explain-exit.js';
export { readChild } from './read-child.js';
