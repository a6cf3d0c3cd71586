import type { SessionFailure, SessionModelDescription, SessionOp, SessionResult } from '@lorasmith/contracts';
import type { SessionEnd, SessionRequest, TrainerReply } from './messages.js';
import type { CodedFailure } from './trainer-failure.js';

/** A training session that is open in a trainer. */
export interface OpenSession {
  readonly described: SessionModelDescription;
  /**
   * Does one op, after those that it was asked for before. Never rejects: where the session ends before it is done, it has failed, and
   * nothing of it can be relied on.
   */
  do(op: SessionOp): Promise<SessionResult>;
  /** Ends the session, and resolves when it has ended. Ops under way fail with `cancelled`. */
  close(): Promise<void>;
  /** Resolves when the session has ended, in whichever way. */
  readonly ended: Promise<SessionEnd>;
}

/** The answer to an order to open a session. `closed`: it was closed before it was open. */
export type OpenedSession = { kind: 'open'; session: OpenSession } | SessionEnd;

interface SessionInTrainerOptions {
  send: (request: SessionRequest) => void;
  /** Called where the session does not end in time. */
  onHang: () => void;
  /** The time that it may take to end, in milliseconds. */
  hangMs: number;
  onEnded: () => void;
}

/** The parent's half of a training session, from its order on. */
export class SessionInTrainer {
  /** Resolves when the session is open, or is not to be. */
  readonly opened: Promise<OpenedSession>;
  readonly ended: Promise<SessionEnd>;
  readonly #run: number;
  readonly #options: SessionInTrainerOptions;
  readonly #ops = new Map<number, (result: SessionResult) => void>();
  #lastOp = 0;
  #end: SessionEnd | null = null;
  #hangTimer: NodeJS.Timeout | undefined;
  #resolveOpened: (opened: OpenedSession) => void = () => {};
  #resolveEnded: (end: SessionEnd) => void = () => {};

  constructor(run: number, options: SessionInTrainerOptions) {
    this.#run = run;
    this.#options = options;
    this.opened = new Promise((resolve) => {
      this.#resolveOpened = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  receive(reply: TrainerReply): void {
    if (reply.type === 'session-opened') this.#resolveOpened({ kind: 'open', session: this.#open(reply.described) });
    else if (reply.type === 'op-done') this.#settle(reply.op, reply.result);
    else if (reply.type === 'session-ended') this.#finish(reply.end);
  }

  /** The trainer has ended. */
  fail(failure: CodedFailure): void {
    // What did not close in time is closed all the same.
    this.#finish(this.#hangTimer === undefined ? { kind: 'failed', failure } : { kind: 'closed' });
  }

  async close(): Promise<void> {
    if (this.#end === null && this.#hangTimer === undefined) {
      const { send, onHang, hangMs } = this.#options;
      this.#hangTimer = setTimeout(onHang, hangMs);
      send({ type: 'close-session', run: this.#run });
    }
    await this.ended;
  }

  #open(described: SessionModelDescription): OpenSession {
    return { described, do: (op) => this.#do(op), close: () => this.close(), ended: this.ended };
  }

  #do(content: SessionOp): Promise<SessionResult> {
    if (this.#end !== null) return Promise.resolve(failureAt(this.#end));
    const op = ++this.#lastOp;
    return new Promise((resolve) => {
      this.#ops.set(op, resolve);
      this.#options.send({ type: 'do-op', run: this.#run, op, content });
    });
  }

  #settle(op: number, result: SessionResult): void {
    this.#ops.get(op)?.(result);
    this.#ops.delete(op);
  }

  #finish(end: SessionEnd): void {
    if (this.#end !== null) return;
    this.#end = end;
    clearTimeout(this.#hangTimer);
    for (const op of [...this.#ops.keys()]) this.#settle(op, failureAt(end));
    this.#options.onEnded();
    // Only the first of the two counts where the session was open.
    this.#resolveOpened(end);
    this.#resolveEnded(end);
  }
}

/** The result of an op of a session that has ended. */
function failureAt(end: SessionEnd): SessionFailure {
  if (end.kind !== 'failed') {
    return { kind: 'failed', category: 'server', code: 'cancelled', message: 'The session was closed.' };
  }
  const { code, message } = end.failure;
  return { kind: 'failed', category: 'server', code, message: `The session is lost: ${message}` };
}
