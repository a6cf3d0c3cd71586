import { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, ProductError, publicText } from '@lorasmith/contracts';
import { asStorageError } from '@lorasmith/storage';
import { type ChildMessage, OUTPUT_DESCRIPTOR } from './child.js';

/** A message of a child of `askChild`; nothing follows `done` or `failed`. */
export type ChildAnswer<Result, Progress = never> =
  | { type: 'progress'; progress: Progress }
  | { type: 'done'; result: Result }
  | { type: 'failed'; code: ErrorCode; message: string; param?: string | undefined };

export interface ServeParentOptions<Received> {
  onMessage: (message: Received) => void;
  /** Time between two heartbeats. @defaultValue {@link HEARTBEAT_MS} */
  heartbeatMs?: number;
}

/** The usual time between two heartbeats of a child, in milliseconds. A limit of its silence must be longer. */
export const HEARTBEAT_MS = 5_000;

export interface ParentChannel<Sent extends ChildMessage> {
  /** Does nothing once the parent has gone. */
  send(message: Sent): void;
}

/** Makes this process a child that serves its parent until the parent ends or closes the channel. */
export function serveParent<Received, Sent extends ChildMessage>({
  onMessage,
  heartbeatMs = HEARTBEAT_MS,
}: ServeParentOptions<Received>): ParentChannel<Sent> {
  endWithParent(0);
  // A terminal or a container sends these to every process; the parent decides about the work.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  process.on('message', onMessage);
  setInterval(() => send({ type: 'heartbeat' }), heartbeatMs).unref();
  return { send };
}

/**
 * Makes this process a child that answers one request and ends.
 * @param name - Of the work, for messages.
 */
export function answerParent<Request, Result, Progress = never>(
  name: string,
  work: (request: Request, report: (progress: Progress) => void) => Promise<Result>,
): void {
  endWithParent(1);
  process.once('message', (request: Request) => {
    const report = (progress: Progress) => send<ChildAnswer<Result, Progress>>({ type: 'progress', progress });
    void answerOf(name, () => work(request, report)).then((answer) => send(answer, () => process.exit(0)));
  });
}

/** The bytes of this child to its parent, which reads them with `readChild`. End it before the answer. */
export function childOutput(): Writable {
  return new Socket({ fd: OUTPUT_DESCRIPTOR, readable: false, writable: true });
}

async function answerOf<Result>(name: string, work: () => Promise<Result>): Promise<ChildAnswer<Result>> {
  try {
    return { type: 'done', result: await work() };
  } catch (error) {
    const known = asStorageError(error);
    if (known instanceof ProductError) return { type: 'failed', code: known.code, ...publicText(known) };
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    const message = `The ${name} failed; the log of the service says why.`;
    return { type: 'failed', code: 'internal_error', message };
  }
}

function send<Sent extends ChildMessage>(message: Sent, onSent = () => {}): void {
  if (process.connected) process.send?.(message, undefined, {}, onSent);
}

/** The time between two looks for the parent while the engine blocks this process. */
const PARENT_CHECK_MS = 1_000;

/**
 * Ends this process when its parent ends. A call of the engine may block the main thread for minutes, or for ever, so a
 * thread of its own looks for the parent, too.
 */
function endWithParent(exitCode: number): void {
  process.on('disconnect', () => process.exit(exitCode));
  const watch = `
    const parent = ${process.ppid};
    setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL'); }, ${PARENT_CHECK_MS});`;
  const watching = new Worker(watch, { eval: true, env: {}, execArgv: [] });
  // Without the thread the process still ends with its parent, unless it is blocked.
  watching.on('error', (error) => console.error(error));
  watching.unref();
}
