import { ProductError, type Report } from '@lorasmith/contracts';
import type { ExampleStoreOptions } from '@lorasmith/planning';
import { Piscina } from 'piscina';
import type { PreflightAnswer, PreflightTask } from './preflight-task.js';

export interface PreflightOptions {
  /** Path of the compiled `preflight-thread.js`. */
  threadFile: string;
  /** How many run at once; each takes a core. */
  threads: number;
  /** How many more may wait. */
  maxWaiting: number;
  /**
   * For waiting and planning together, besides the time that the size of the dataset allows; then the thread is ended,
   * whatever it does.
   */
  timeoutMs: number;
  /** Where datasets are kept as tokens. */
  tokens: ExampleStoreOptions;
}

/** Works out what a job would do, beside the event loop: a chat template is code that comes with a model, and may loop. */
export interface Preflight {
  /** @throws ProductError what planning throws; `timeout`; `service_unavailable` when too many wait */
  report(task: PreflightTask): Promise<Report>;
  close(): Promise<void>;
}

/** Of JavaScript objects; the tokens themselves are outside of it. */
export const MAX_HEAP_MB = 2_048;
const IDLE_MS = 60_000;
/** Short rows in a chat template are tokenized at a quarter of a megabyte a second; less than half of that is stuck. */
const MS_PER_MEGABYTE = 10_000;

export function createPreflight(options: PreflightOptions): Preflight {
  const { threadFile, threads, maxWaiting, timeoutMs, tokens } = options;
  const pool = new Piscina<PreflightTask & { tokens: ExampleStoreOptions }, PreflightAnswer>({
    filename: threadFile,
    minThreads: 0,
    maxThreads: threads,
    maxQueue: maxWaiting,
    idleTimeout: IDLE_MS,
    // Flags of the process are for the process, for instance a debugger's port.
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB },
  });
  return {
    async report(task) {
      const limitMs = timeoutMs + Math.ceil((task.dataset.bytes / 1e6) * MS_PER_MEGABYTE);
      const answer = await pool.run({ ...task, tokens }, { signal: AbortSignal.timeout(limitMs) }).catch((error) => {
        throw poolError(error, limitMs);
      });
      if ('report' in answer) return answer.report;
      const { code, message, param, details } = answer.error;
      throw new ProductError(code, message, { param, details });
    },
    close: () => pool.destroy(),
  };
}

function poolError(error: Error & { code?: string }, limitMs: number): unknown {
  if (error.name === 'AbortError') {
    const message = `Planning the job took longer than ${limitMs / 1000} s and was ended. Look at the chat template of the base model, or raise PREFLIGHT_TIMEOUT_MS.`;
    return new ProductError('timeout', message, { cause: error });
  }
  if (error.message === 'Task queue is at limit' || error.message.startsWith('No task queue available')) {
    const message = 'Too many jobs are being planned. Try again in a moment.';
    return new ProductError('service_unavailable', message, { cause: error });
  }
  if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    const message = `Planning the job took more than ${MAX_HEAP_MB} MB of memory. Use a smaller dataset or shorter rows.`;
    return new ProductError('does_not_fit', message, { cause: error });
  }
  return error;
}
