import {
  type AdapterManifest,
  type Dataset,
  type ErrorCode,
  type Fault,
  type JobSpec,
  type MachineProfile,
  ProductError,
  type Report,
} from '@lorasmith/contracts';
import type { ExampleStoreOptions } from '@lorasmith/planning';
import { Piscina } from 'piscina';

/** The message to a preflight thread. */
export interface PreflightTask {
  spec: JobSpec;
  modelsDir: string;
  dataset: Dataset;
  rowsFile: string;
  /** The manifest of the adapter that the job continues to train. */
  initial: AdapterManifest | null;
  /** The measured profile of a worker's machine; null: no estimate. */
  machine: MachineProfile | null;
}

/** Its answer. An error is plain data, because classes are lost in the transfer between threads. */
export type PreflightAnswer =
  | { report: Report }
  | { error: { code: ErrorCode; message: string; param: string | undefined; details: Fault[] } };

export interface PreflightOptions {
  /** Path of the compiled `preflight-thread.js`. */
  threadFile: string;
  /** Number of threads. Each uses a core. */
  threads: number;
  /** Maximum waiting tasks. */
  maxWaiting: number;
  /** Limit for waiting and planning together, plus a time that depends on the size of the dataset. Then the thread is ended. */
  timeoutMs: number;
  /** Where datasets are stored as tokens. */
  tokens: ExampleStoreOptions;
}

/** Plans jobs outside the event loop: a chat template is code of a model, and may loop forever. */
export interface Preflight {
  /** @throws ProductError the errors of planning; `timeout`; `service_unavailable` if too many tasks wait */
  report(task: PreflightTask): Promise<Report>;
  close(): Promise<void>;
}

/** Limit for JavaScript objects. The tokens do not count. */
export const MAX_HEAP_MB = 2_048;
const IDLE_MS = 60_000;
/** Short rows in a chat template are tokenized at 0.25 MB/s. Below half of that, the thread counts as hanging. */
const MS_PER_MEGABYTE = 10_000;

export function createPreflight(options: PreflightOptions): Preflight {
  const { threadFile, threads, maxWaiting, timeoutMs, tokens } = options;
  const pool = new Piscina<PreflightTask & { tokens: ExampleStoreOptions }, PreflightAnswer>({
    filename: threadFile,
    minThreads: 0,
    maxThreads: threads,
    maxQueue: maxWaiting,
    idleTimeout: IDLE_MS,
    // Without the flags of this process, such as the port of a debugger.
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
    const message = `Planning the job took longer than ${limitMs / 1000} s and was stopped. Check the chat template of the base model, or raise PREFLIGHT_TIMEOUT_MS.`;
    return new ProductError('timeout', message, { cause: error });
  }
  if (error.message === 'Task queue is at limit' || error.message.startsWith('No task queue available')) {
    const message = 'Too many jobs are being planned. Try again in a moment.';
    return new ProductError('service_unavailable', message, { cause: error });
  }
  if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    const message = `Planning the job needed more than ${MAX_HEAP_MB} MB of memory. Use a smaller dataset or shorter rows.`;
    return new ProductError('does_not_fit', message, { cause: error });
  }
  return error;
}
