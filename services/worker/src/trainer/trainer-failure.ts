import { ERROR_STATUS, type ErrorCode, type JobFailure } from '@lorasmith/contracts';
import { NO_GPU_EXIT_CODE } from '../device/no-gpu-exit-code.js';

/** How a trainer went away that nobody had told to. */
export interface TrainerExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** When the process could not be started at all. */
  error?: Error | undefined;
  /** The last lines it wrote. */
  lines: string[];
}

const OUT_OF_MEMORY =
  /heap out of memory|std::bad_alloc|Cannot allocate memory|failed to map segment|OOM when allocating/i;

/** What became of a trainer that crashed: what to tell the user, or `gpu_unavailable`, which is no fault of the job. */
export function exitFailure({ code, signal, error, lines }: TrainerExit): JobFailure {
  if (error !== undefined) {
    return crash(`The trainer could not be started: ${error.message}.`);
  }
  if (code === NO_GPU_EXIT_CODE) {
    return { code: 'gpu_unavailable', message: 'The trainer no longer sees the GPU.', details: [] };
  }
  // Nothing of ours sent this signal: the kernel takes the largest process when memory runs out.
  if (signal === 'SIGKILL' || lines.some((line) => OUT_OF_MEMORY.test(line))) {
    return {
      code: 'out_of_memory',
      message:
        'The trainer was ended because memory ran out. Use a smaller batch_size (with more gradient_accumulation_steps), ' +
        'a smaller max_seq_length, or a machine with more memory.',
      details: [],
    };
  }
  const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
  const last = lines.findLast((line) => line.trim() !== '');
  return crash(`The trainer ended with ${how}.${last === undefined ? '' : ` Its last line: ${last.slice(0, 300)}`}`);
}

function crash(message: string): JobFailure {
  return { code: 'trainer_crashed', message, details: [] };
}

/** Whether another attempt may get further: not where the user must mend something first, or where it would end the same. */
export function isRetryable({ code }: JobFailure): boolean {
  // The same training gives the same adapter.
  if (code === 'adapter_check_failed') return false;
  return (ERROR_STATUS[code as ErrorCode] ?? 500) >= 500;
}
