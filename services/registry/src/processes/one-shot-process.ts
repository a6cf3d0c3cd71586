import { type ChildProcess, fork } from 'node:child_process';
import { type ErrorCode, ProductError } from '@lorasmith/contracts';

/** How a process is started that is asked one thing and ends. */
export interface ChildProgram {
  /** A JavaScript file. */
  file: string;
  /** Its whole environment. */
  environment: NodeJS.ProcessEnv;
}

/** What the process says; nothing follows `done` or `failed`. */
export type ChildMessage<Result, Progress = never> =
  | { type: 'progress'; progress: Progress }
  | { type: 'done'; result: Result }
  | { type: 'failed'; code: ErrorCode; message: string; param?: string | undefined };

export interface OneShotOptions<Progress> {
  /** The process is killed when it is aborted, with a ProductError as its reason. */
  signal: AbortSignal;
  /** The process is killed after this long. */
  timeoutMs: number;
  /** What it does, for messages: `Merging`. */
  work: string;
  /** The code of a process that died. */
  crashCode: ErrorCode;
  onProgress?(progress: Progress): void;
}

/** Of what it wrote to its standard error, the end is kept for the log. */
const KEPT_OUTPUT_CHARACTERS = 4_000;

/**
 * Asks a process of its own: it may block or die, and its memory goes back to the system when it ends.
 *
 * @throws ProductError the code that the process gave; `crashCode` when it died; timeout; the reason of the signal
 */
export async function runOneShotProcess<Result, Progress = never>(
  program: ChildProgram,
  request: object,
  options: OneShotOptions<Progress>,
): Promise<Result> {
  const child = fork(program.file, {
    env: program.environment,
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const output = keepOutput(child);
  let answer: ChildMessage<Result, Progress> | undefined;
  let failure: Error | undefined;
  const end = (error: Error) => {
    failure ??= error;
    child.kill('SIGKILL');
  };
  const abort = () => end(options.signal.reason);
  const crashed = (how: string, cause: Error) => {
    const message = `${options.work} ended early: its process ${how}. Try again; if it happens again, look at the memory left.`;
    return new ProductError(options.crashCode, message, { cause });
  };
  const timer = setTimeout(() => {
    end(new ProductError('timeout', `${options.work} took longer than ${options.timeoutMs / 1000} s and was ended.`));
  }, options.timeoutMs);
  options.signal.addEventListener('abort', abort, { once: true });
  if (options.signal.aborted) abort();
  child.on('message', (message: ChildMessage<Result, Progress>) => {
    if (message.type === 'progress') options.onProgress?.(message.progress);
    else answer = message;
  });
  child.send(request, (error) => {
    if (error) end(crashed('could not be asked', error));
  });
  try {
    const ending = await ended(child);
    if (failure !== undefined) throw failure;
    if (answer?.type === 'done') return answer.result;
    const cause = new Error(output());
    if (answer?.type === 'failed') throw new ProductError(answer.code, answer.message, { param: answer.param, cause });
    throw crashed(ending, cause);
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener('abort', abort);
  }
}

/** Why the processes are ended when the registry is. */
export function shuttingDown(): ProductError {
  return new ProductError('service_unavailable', 'The registry is shutting down. Try again later.');
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
