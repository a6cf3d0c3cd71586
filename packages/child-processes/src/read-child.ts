import { PassThrough } from 'node:stream';
import { type AskOptions, askChild } from './ask-child.js';
import type { ChildProgram } from './child.js';

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
