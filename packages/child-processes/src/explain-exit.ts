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

/** Explains how a child ended. */
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
