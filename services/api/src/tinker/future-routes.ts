import { ProductError, type QueuedSessionResult, type SessionFailure } from '@lorasmith/contracts';
import type { CallState, TrainingSessionStore } from '@lorasmith/queue';
import { type HttpApp, linkSignals, onceClosed } from '@lorasmith/service-kit';
import { encodeForwardBackwardOutput } from '@lorasmith/tinker-wire';
import type { FastifyReply } from 'fastify';
import { type OwnResult, readOwnResult } from './own-result.js';
import type { OwnSessions } from './own-sessions.js';
import { checkpointAdapterId, type FutureName, parseFuture, pathOf } from './tinker-names.js';
import { RetrieveFuture } from './tinker-requests.js';

/** The client waits for 45 s. */
const HELD_MS = 35_000;
const PROTOBUF = 'application/x-protobuf';

export interface FutureRoutesOptions {
  store: TrainingSessionStore;
  own: OwnSessions;
}

/** The call that fetches a result, once it is there. A result may be fetched several times. */
export async function futureRoutes(app: HttpApp, { store, own }: FutureRoutesOptions): Promise<void> {
  const closing = new AbortController();
  app.addHook('preClose', async () => closing.abort());

  app.post('/retrieve_future', { schema: { hide: true, body: RetrieveFuture } }, async ({ body, caller }, reply) => {
    const { request_id } = body;
    const future = parseFuture(request_id);
    if (future === null)
      throw new ProductError('invalid_request', `${JSON.stringify(request_id)} is no id of a result.`);
    await own.session(future.session, caller);
    const left = new AbortController();
    onceClosed(reply.raw, () => left.abort());
    const waiting = linkSignals([left.signal, closing.signal]);
    try {
      if (future.of === 'model') {
        const state = await store.call(future.id, future.seq, HELD_MS, waiting.signal);
        return await sendState(reply, request_id, future, state);
      }
      const found = await store.ownResult(request_id, HELD_MS, waiting.signal);
      if (found.kind === 'running') return tryAgain(request_id, 'active');
      if (found.kind === 'unknown') return await gone(reply);
      return await sendOwn(reply, readOwnResult(found.bytes));
    } finally {
      waiting.unlink();
    }
  });
}

type QueueState = 'active' | 'paused_capacity';

const tryAgain = (request_id: string, queue_state: QueueState) => ({
  ...{ type: 'try_again', request_id, queue_state },
  queue_state_reason: queue_state === 'active' ? null : 'No worker can take the model now.',
});

/** A failure as the client of tinker reads it, which ignores the code. */
const failed = ({ message, category, code }: Pick<SessionFailure, 'message' | 'category' | 'code'>) => ({
  ...{ error: message, category, code },
});

/** The client sends a call that samples again. */
const gone = (reply: FastifyReply) => reply.code(410).send({ detail: 'There is no such result, or no longer.' });

async function sendOwn(reply: FastifyReply, result: OwnResult) {
  if (result.kind === 'failed') return failed(result);
  return await reply.type(PROTOBUF).send(result.body);
}

async function sendState(reply: FastifyReply, request_id: string, future: FutureName, state: CallState) {
  switch (state.kind) {
    case 'waiting':
      return tryAgain(request_id, state.state === 'waiting' ? 'paused_capacity' : 'active');
    case 'unknown':
      return await gone(reply);
    case 'ended':
      return failed({ message: state.reason, category: 'server', code: 'cancelled' });
    case 'done':
      return await sendResult(reply, future, state.result);
  }
}

async function sendResult(reply: FastifyReply, { id: model, seq }: FutureName, result: QueuedSessionResult) {
  switch (result.kind) {
    case 'failed':
      return failed(result);
    case 'opened':
      return { model_id: model };
    case 'forward-backward':
      return await reply.type(PROTOBUF).send(Buffer.from(encodeForwardBackwardOutput(result)));
    case 'optimizer-step':
      return { metrics: result.metrics };
    case 'loaded':
      return { path: result.path, model_id: model };
    case 'saved':
      return {
        ...{ path: pathOf({ model, ...result.checkpoint }), size_bytes: result.bytes },
        adapter: checkpointAdapterId(model, seq),
      };
    case 'snapshot-saved':
      return { path: null, sampling_session_id: result.sampler };
  }
}
