import type { ChildExit } from './child.js';

/**
 * The exit code of a process that was to compute on a GPU and sees none. EX_UNAVAILABLE of sysexits.h: neither a wrong
 * setting (78) nor a crash (1).
 */
export const NO_GPU_EXIT_CODE = 69;

/** The cause of a child's end, and `how` as the end of a sentence: `ended with exit code 3`. */
export interface ExitExplanation {
  cause: 'not-started' | 'silence' | 'time-limit' | 'stop' | 'gpu-lost' | 'out-of-memory' | 'crash';
  how: string;
  /** The last line that the child wrote, at most 300 characters; null when it wrote none. */
  lastLine: string | null;
}

const OUT_OF_MEMORY =
  /heap out of memory|std::bad_alloc|Cannot allocate memory|failed to map segment|OOM when allocating/i;

/** Explains the end of a child. */
export function explainExit(exit: ChildExit): ExitExplanation {
  const lastLine = exit.lines.findLast((line) => line.trim() !== '')?.slice(0, 300) ?? null;
  return { cause: causeOf(exit), how: howOf(exit), lastLine };
}

function causeOf({ code, signal, error, killedFor, lines }: ChildExit): ExitExplanation['cause'] {
  if (error !== null) return 'not-started';
  if (killedFor !== null) return killedFor;
  if (code === NO_GPU_EXIT_CODE) return 'gpu-lost';
  // Nobody here sent this signal: the kernel kills the largest process when memory runs out.
  if (signal === 'SIGKILL' || lines.some((line) => OUT_OF_MEMORY.test(line))) return 'out-of-memory';
  return 'crash';
}

function howOf({ code, signal, error }: ChildExit): string {
  if (error !== null) return `could not be started (${error.message})`;
  return signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`;
}

/** An error of NVIDIA's driver, as the CUDA engine words it: `CUDA_ERROR_LAUNCH_FAILED (719)`. */
export interface CudaError {
  name: string;
  code: number;
}

const CUDA_ERROR = /(CUDA_ERROR_[A-Z0-9_]+) \((\d+)\)/;

/** Codes after which the card and the process are as usable as before. */
const HARMLESS: ReadonlySet<number> = new Set([
  2, // out of memory
]);

/** Codes of kernels that the driver does not load: the files are damaged, or made for other cards. */
const NOT_LOADED: ReadonlySet<number> = new Set([
  200, // invalid image
  209, // no binary for this GPU
  218, // invalid PTX
  222, // PTX of a newer version
  300, // invalid source
  301, // file not found
  500, // not found: the module has no such kernel
]);

/** The first error of the driver in a text; null where there is none. */
export function cudaErrorIn(text: string): CudaError | null {
  const [, name, code] = CUDA_ERROR.exec(text) ?? [];
  return name === undefined ? null : { name, code: Number(code) };
}

/**
 * True if the process can no longer compute on the card: after such an error every call of the driver fails. The card
 * itself may be well, which only another process can find out.
 */
export function endsCudaContext({ code }: CudaError): boolean {
  return !HARMLESS.has(code) && !NOT_LOADED.has(code);
}

/** True if the driver refused to load the kernels of the CUDA engine. */
export function isUnloadableKernel({ code }: CudaError): boolean {
  return NOT_LOADED.has(code);
}
