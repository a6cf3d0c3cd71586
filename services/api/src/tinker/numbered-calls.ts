import { ProductError, type QueuedSessionOp } from '@lorasmith/contracts';
import type { TrainingSessionStore } from '@lorasmith/queue';
import { type Caller, logError, productErrorOf } from '@lorasmith/service-kit';
import { readCallNumber } from '@lorasmith/tinker-wire';
import type { FastifyRequest } from 'fastify';
import { Value } from 'typebox/value';
import type { OwnSessions } from './own-sessions.js';
import { detailOf } from './tinker-errors.js';
import { futureIdOf } from './tinker-names.js';
import { NumberedCall } from './tinker-requests.js';

/** Queues a call at its place among those on its model, and answers with the id of its result. @throws ProductError `too_many_requests` */
export async function submit(store: TrainingSessionStore, model: string, seq: number, op: QueuedSessionOp) {
  const answer = await store.submit(model, seq, op);
  if (answer === 'full') {
    throw new ProductError('too_many_requests', 'As many calls of this model wait as may. Fetch results first.', {
      retryAfterSeconds: 2,
    });
  }
  // The result of a call on a model that has ended is the reason.
  return { request_id: futureIdOf(model, seq), model_id: model };
}

/** Statuses below 500 after which the client sends a call again. */
const SENT_AGAIN = new Set([408, 429]);

/**
 * Queues a call that is refused, so that its failure is its result: a number without a call would keep all later calls waiting.
 * @returns null where the call has no model of its caller and number, and where the client sends it again
 * @throws ProductError `too_many_requests`: the client sends it again, too
 */
export async function queueRefusal(
  { store, own }: { store: TrainingSessionStore; own: OwnSessions },
  thrown: unknown,
  request: FastifyRequest,
): Promise<{ request_id: string; model_id: string } | null> {
  const error = productErrorOf(thrown, request);
  const { body, caller } = request as FastifyRequest & { caller?: Caller };
  if (error.status >= 500 || SENT_AGAIN.has(error.status) || caller === undefined) return null;
  const call = callOf(body);
  if (call === null) return null;
  try {
    await own.model(call.modelId, caller);
    const failure = { kind: 'failed' as const, category: 'user' as const, code: error.code, message: detailOf(error) };
    const queued = await submit(store, call.modelId, call.seqId, { kind: 'refused', failure });
    logError(error, thrown, request);
    return queued;
  } catch (other) {
    if (other instanceof ProductError && !SENT_AGAIN.has(other.status)) return null;
    throw other;
  }
}

function callOf(body: unknown): { modelId: string; seqId: number } | null {
  if (Buffer.isBuffer(body)) return readCallNumber(body);
  return Value.Check(NumberedCall, body) ? { modelId: body.model_id, seqId: body.seq_id } : null;
}
