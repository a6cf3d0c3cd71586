import { PassThrough, type Writable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';
import { type ChildExit, type ChildProgram, startChild } from './child.js';
import { explainExit } from './explain-exit.js';
import type { ChildAnswer } from './serve-parent.js';

export interface AskOptions<Progress = never> {
  /** The child is killed when it is aborted, and its reason is thrown. */
  signal?: AbortSignal;
  /** The child is killed after this long. */
  timeoutMs: number;
  /** The child's work, as the subject of messages: `Merging`. */
  work: string;
  /**
   * Makes the error for a child that ended without an answer.
   * @param how - For instance `ended with exit code 3`.
   */
  crashed(how: string, exit: ChildExit): Error;
  onProgress?(progress: Progress): void;
  onLine?(line: string): void;
  /** Receives the bytes of the child's {@link childOutput}, without their end. */
  output?: Writable;
}

/**
 * Sends one request to a process of its own and returns its answer. The process may block or die, and its memory returns
 * to the system when it ends. Its program calls `answerParent`.
 *
 * @throws ProductError with the code that the child answered, or `timeout`; the error of `crashed`; the signal's reason
 */
export async function askChild<Result, Progress = never>(
  program: ChildProgram,
  request: object,
  { signal, timeoutMs, work, crashed, onProgress, onLine, output }: AskOptions<Progress>,
): Promise<Result> {
  signal?.throwIfAborted();
  let answer: Exclude<ChildAnswer<Result, Progress>, { type: 'progress' }> | undefined;
  const child = startChild<object, ChildAnswer<Result, Progress>>({
    program,
    onMessage(message) {
      if (message.type === 'progress') onProgress?.(message.progress);
      else answer = message;
    },
    onLine,
    hasOutput: output !== undefined,
  });
  if (output !== undefined) child.output?.pipe(output, { end: false });
  const abort = () => child.kill('stop');
  const timer = setTimeout(() => child.kill('time-limit'), timeoutMs);
  signal?.addEventListener('abort', abort, { once: true });
  child.send(request);
  try {
    const exit = await child.ended;
    if (exit.killedFor === 'stop') throw signal?.reason;
    if (exit.killedFor === 'time-limit') {
      throw new ProductError('timeout', `${work} took longer than ${timeoutMs / 1000} s and was stopped.`);
    }
    if (answer?.type === 'done') return answer.result;
    if (answer === undefined) throw crashed(explainExit(exit).how, exit);
    const { code, message, param } = answer;
    throw new ProductError(code, message, { param, cause: new Error(exit.lines.join('\n')) });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/**
 * Sends one request to a process of its own, and passes on the bytes that it writes to `childOutput`. The process waits while they are not
 * taken, and is killed when its reader leaves.
 *
 * The bytes throw the errors of {@link askChild}.
 */
export async function* readChild(
  program: ChildProgram,
  request: object,
  { signal, ...options }: Omit<AskOptions, 'output' | 'onProgress'>,
): AsyncGenerator<Buffer> {
  const reader = new AbortController();
  const output = new PassThrough();
  const answer = askChild<null>(program, request, {
    ...options,
    output,
    signal: signal === undefined ? reader.signal : AbortSignal.any([signal, reader.signal]),
  });
  answer.then(
    () => output.end(),
    (error: Error) => output.destroy(error),
  );
  try {
    yield* output;
  } finally {
    reader.abort(new Error('its reader has left'));
    // The process has ended before what it reads is removed.
    await answer.catch(() => {});
  }
}
