import { ProductError, toldOf } from '@lorasmith/contracts';
import { asStorageError } from '@lorasmith/storage';
import type { ChildMessage } from './one-shot-process.js';

/** Makes this process one that does what its parent asks, once, and ends. @param name of the work, for messages */
export function answerParent<Request, Result, Progress = never>(
  name: string,
  work: (request: Request, tell: (progress: Progress) => void) => Promise<Result>,
): void {
  // The registry is gone: nobody would take the result.
  process.on('disconnect', () => process.exit(1));
  const send = (message: ChildMessage<Result, Progress>, sent?: () => void) => process.send!(message, () => sent?.());
  process.once('message', (request: Request) => {
    void answer(name, () => work(request, (progress) => send({ type: 'progress', progress }))).then((message) =>
      send(message, () => process.exit(0)),
    );
  });
}

async function answer<Result>(name: string, work: () => Promise<Result>): Promise<ChildMessage<Result>> {
  try {
    return { type: 'done', result: await work() };
  } catch (error) {
    const known = asStorageError(error);
    if (known instanceof ProductError) return { type: 'failed', code: known.code, ...toldOf(known) };
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    const message = `The ${name} failed; the log of the registry says why.`;
    return { type: 'failed', code: 'internal_error', message };
  }
}
