import { type ChildProcess, fork } from 'node:child_process';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import type { MergeMessage, MergeRequest } from './merge-messages.js';

/** How the merge process is started. */
export interface MergeProgram {
  /** A JavaScript file. */
  file: string;
  /** Its whole environment. */
  environment: NodeJS.ProcessEnv;
}

export interface RunMergeOptions {
  /** The process is killed when it is aborted. */
  signal: AbortSignal;
  /** The process is killed after this long. */
  timeoutMs: number;
  onProgress?(doneBytes: number, totalBytes: number): void;
}

/** Of what it wrote to its standard error, the end is kept for the log. */
const KEPT_OUTPUT_CHARACTERS = 4_000;

/**
 * Merges in a process of its own: the engine blocks, and its memory goes back to the system when it ends.
 *
 * @returns the files it made
 * @throws ProductError the code that the process gave; merge_crashed when it died; timeout; service_unavailable when
 * aborted. The output folder is then to be discarded.
 */
export async function runMergeProcess(
  program: MergeProgram,
  request: MergeRequest,
  options: RunMergeOptions,
): Promise<AdapterFile[]> {
  const child = fork(program.file, {
    env: program.environment,
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const output = keepOutput(child);
  let result: MergeMessage | undefined;
  let failure: Error | undefined;
  const end = (error: Error) => {
    failure ??= error;
    child.kill('SIGKILL');
  };
  const abort = () => end(new ProductError('service_unavailable', 'The registry is shutting down. Try again later.'));
  const timer = setTimeout(() => {
    end(new ProductError('timeout', `Merging took longer than ${options.timeoutMs / 1000} s and was ended.`));
  }, options.timeoutMs);
  options.signal.addEventListener('abort', abort, { once: true });
  if (options.signal.aborted) abort();
  child.on('message', (message: MergeMessage) => {
    if (message.type === 'progress') options.onProgress?.(message.doneBytes, message.totalBytes);
    else result = message;
  });
  child.send(request, (error) => {
    if (error) end(crashed('could not be asked', error));
  });
  try {
    const ending = await ended(child);
    if (failure !== undefined) throw failure;
    if (result?.type === 'merged') return result.files;
    const cause = new Error(output());
    if (result?.type === 'failed') throw new ProductError(result.code, result.message, { cause });
    throw crashed(ending, cause);
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener('abort', abort);
  }
}

/** How the process ended, once it is gone and everything it sent has been received. */
async function ended(child: ChildProcess): Promise<string> {
  return await new Promise((resolve) => {
    child.once('error', (error) => resolve(`could not be started (${error.message})`));
    child.once('close', (code, signal) => {
      resolve(signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`);
    });
  });
}

function keepOutput(child: ChildProcess): () => string {
  let kept = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    kept = (kept + text).slice(-KEPT_OUTPUT_CHARACTERS);
  });
  return () => kept;
}

function crashed(how: string, cause: Error): ProductError {
  const message = `The merge process ${how} before it was done. Try again; if it happens again, look at the memory left.`;
  return new ProductError('merge_crashed', message, { cause });
}
