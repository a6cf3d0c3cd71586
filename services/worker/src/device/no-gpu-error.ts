import { NO_GPU_EXIT_CODE } from '@lorasmith/child-processes';

/** A GPU is to be used and none can be; the message says why. */
export class NoGpuError extends Error {
  readonly exitCode = NO_GPU_EXIT_CODE;
}
