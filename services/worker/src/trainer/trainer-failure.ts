import { type ChildExit, explainExit } from '@lorasmith/child-processes';
import { ERRORS, type ErrorCode, type JobFailure } from '@lorasmith/contracts';

/**
 * The failure of the runs of a trainer that ended by itself or was killed. `gpu_unavailable` is no fault of the job.
 * @param silenceMs - How long a trainer may be silent.
 */
export function exitFailure(exit: ChildExit, silenceMs: number): JobFailure {
  const { cause, how, lastLine } = explainExit(exit);
  switch (cause) {
    case 'silence':
      return failure('trainer_hung', `The trainer gave no sign of life for ${silenceMs / 1000} s and was killed.`);
    case 'gpu-lost':
      return failure('gpu_unavailable', 'The trainer no longer sees the GPU.');
    case 'out-of-memory':
      return failure(
        'out_of_memory',
        'The trainer was killed because memory ran out. Use a smaller batch_size (with more ' +
          'gradient_accumulation_steps), a smaller max_seq_length, or a machine with more memory.',
      );
    default:
      return failure('trainer_crashed', `The trainer ${how}.${lastLine === null ? '' : ` Its last line: ${lastLine}`}`);
  }
}

function failure(code: ErrorCode, message: string): JobFailure {
  return { code, message, details: [] };
}

/** Codes of failures that may be another run's fault where a trainer has several: it crashed, hung or ran out of memory. */
const CRASH_CODES: ReadonlySet<string> = new Set<ErrorCode>([
  'trainer_crashed',
  'trainer_hung',
  'out_of_memory',
  'internal_error',
]);

/** Whether the process failed, or something of ours in it, rather than the job. */
export function isCrash({ code }: JobFailure): boolean {
  return CRASH_CODES.has(code);
}

/** Whether another attempt may succeed: not where the user must fix something, or where it would end the same. */
export function isRetryable({ code }: JobFailure): boolean {
  // The same training makes the same adapter.
  if (code === 'adapter_check_failed') return false;
  return (ERRORS[code as ErrorCode]?.status ?? 500) >= 500;
}
