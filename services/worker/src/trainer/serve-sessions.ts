import {
  ERRORS,
  JobDeferred,
  ProductError,
  type SessionFailure,
  type SessionModelDescription,
  type SessionOp,
  type SessionResult,
} from '@lorasmith/contracts';
import type { SessionEnd, SessionOrder, SessionReply, SessionRequest, TrainerRequest } from './messages.js';
import { loggedFailure } from './trainer-failure.js';

/** A training session that is open in this process. */
export interface ServedSession {
  readonly described: SessionModelDescription;
  /** Does one op, after those before. @throws ProductError, and what the engine throws: nothing of it is done */
  do(op: SessionOp): Promise<SessionResult>;
  /** Frees it, once its ops have ended. */
  close(): Promise<void>;
}

/** Opens a session. @throws JobDeferred, ProductError */
export type OpenServedSession = (order: SessionOrder, options: { signal: AbortSignal }) => Promise<ServedSession>;

interface ServedSessionsOptions {
  open: OpenServedSession | undefined;
  send: (reply: SessionReply) => void;
  /** Called after an op that failed, and after the end of a session. */
  onDone: () => void;
}

const ABOUT_SESSION: ReadonlySet<string> = new Set<SessionRequest['type']>(['open-session', 'do-op', 'close-session']);

export function isAboutSession(request: TrainerRequest): request is SessionRequest {
  return ABOUT_SESSION.has(request.type);
}

/** The training sessions of a trainer, as its parent asks for them. */
export class ServedSessions {
  readonly #options: ServedSessionsOptions;
  readonly #sessions = new Map<number, { closing: AbortController; session: ServedSession | null }>();

  constructor(options: ServedSessionsOptions) {
    this.#options = options;
  }

  receive(request: SessionRequest): void {
    if (request.type === 'open-session') void this.#serve(request.run, request.order);
    else if (request.type === 'do-op') void this.#do(request.run, request.op, request.content);
    else this.#sessions.get(request.run)?.closing.abort('cancel');
  }

  async #serve(run: number, order: SessionOrder): Promise<void> {
    const { open, send, onDone } = this.#options;
    const closing = new AbortController();
    const served: { closing: AbortController; session: ServedSession | null } = { closing, session: null };
    this.#sessions.set(run, served);
    try {
      if (open === undefined) throw new Error('this trainer opens no sessions');
      const session = await open(order, { signal: closing.signal });
      served.session = session;
      send({ type: 'session-opened', run, described: session.described });
      if (!closing.signal.aborted) {
        await new Promise((resolve) => closing.signal.addEventListener('abort', resolve, { once: true }));
      }
      await session.close();
      send({ type: 'session-ended', run, end: { kind: 'closed' } });
    } catch (error) {
      send({ type: 'session-ended', run, end: endOf(error, closing.signal) });
    } finally {
      this.#sessions.delete(run);
      onDone();
    }
  }

  async #do(run: number, op: number, content: SessionOp): Promise<void> {
    const { send, onDone } = this.#options;
    const session = this.#sessions.get(run)?.session;
    // It has ended, and said so.
    if (session == null) return;
    try {
      send({ type: 'op-done', run, op, result: await session.do(content) });
    } catch (error) {
      send({ type: 'op-done', run, op, result: opFailure(error) });
      onDone();
    }
  }
}

function endOf(error: unknown, closing: AbortSignal): SessionEnd {
  if (error instanceof JobDeferred) return { kind: 'deferred', why: error.message };
  if (closing.aborted && error instanceof ProductError && error.code === 'cancelled') return { kind: 'closed' };
  return { kind: 'failed', failure: loggedFailure(error) };
}

function opFailure(error: unknown): SessionFailure {
  const { code, message } = loggedFailure(error);
  const isOfUser = ERRORS[code].status < 500 && code !== 'cancelled';
  return { kind: 'failed', category: isOfUser ? 'user' : 'server', code, message };
}
