import type { AskOptions } from '@lorasmith/child-processes';
import { type ErrorCode, ProductError } from '@lorasmith/contracts';

/** The reason to stop child processes when the registry shuts down. */
export function shuttingDown(): ProductError {
  return new ProductError('service_unavailable', 'The registry is shutting down. Try again later.');
}

/** The error for a child process that ended without an answer, with its last lines as the cause. */
export function crashError(work: string, code: ErrorCode): AskOptions['crashed'] {
  return (how, { lines }) => {
    const message = `${work} failed: its process ${how}. Try again. If it fails again, check the free memory.`;
    return new ProductError(code, message, { cause: new Error(lines.join('\n')) });
  };
}
