import { setMaxListeners } from 'node:events';
import { Semaphore } from '@lorasmith/concurrency';
import { ProductError, type Sampler } from '@lorasmith/contracts';
import type { GenerationClient, TrainingSessionStore } from '@lorasmith/queue';
import { type Caller, type HttpApp, productErrorOf } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import type { GenerationLimits } from '../openai/generation-request.js';
import type { ModelDirectory } from '../openai/model-directory.js';
import { bytesOfOwnResult } from './own-result.js';
import type { OwnSessions } from './own-sessions.js';
import { sample } from './sample.js';
import { SampleBody, type SamplingCall, samplingCallOf } from './sampling-request.js';
import { futureIdOf, parsePath, samplerIdOf, sessionOf } from './tinker-names.js';
import { CreateSamplingSession, IdParams } from './tinker-requests.js';

export interface SamplingRoutesOptions {
  store: TrainingSessionStore;
  own: OwnSessions;
  generation: GenerationClient;
  directory: ModelDirectory;
  limits: GenerationLimits;
  /** The time that a request waits for a worker. */
  waitMs: number;
}

/** Bytes of a call: a prompt as long as the longest contexts. */
const BODY_LIMIT_BYTES = 8 * 2 ** 20;
/** The calls of this process that are sampled at once; more wait. */
const AT_ONCE = 64;
/** The calls that wait. */
const MAX_WAITING = 2_000;
/** The time between two signs that this process still samples. */
const RENEW_MS = 5_000;
/** The time for which a call is tried while no worker can take it. */
const PATIENCE_MS = 10 * 60_000;
/** Limits, for docs/limits.md. */
export const samplingLimits = {
  body: { value: BODY_LIMIT_BYTES, unit: 'bytes', beyond: '413 `body_too_large`' },
  waiting: { value: MAX_WAITING, unit: 'calls', beyond: '429 `too_many_requests`' },
};

const hide = true;

/** The calls that sample. This process does them, and keeps their results for the client. */
export async function samplingRoutes(app: HttpApp, options: SamplingRoutesOptions): Promise<void> {
  const { store, own, limits } = options;
  const closing = new AbortController();
  // Each call that samples or waits listens.
  setMaxListeners(0, closing.signal);
  app.addHook('preClose', async () => closing.abort());
  const atOnce = new Semaphore(AT_ONCE);

  app.post('/create_sampling_session', { schema: { hide, body: CreateSamplingSession } }, async ({ body, caller }) => {
    const { session_id: session, sampling_session_seq_id: number } = body;
    await own.openSession(session, caller);
    const id = samplerIdOf(session, number);
    await store.writeSampler({ id, owner: caller.owner, session, ...(await weightsOf(options, body, caller)) });
    return { type: 'create_sampling_session', sampling_session_id: id };
  });

  app.get('/samplers/:id', { schema: { hide, params: IdParams } }, async ({ params: { id }, caller }) => {
    const { base_model, model_path } = await samplerOf(options, id, caller);
    return { sampler_id: id, base_model, model_path };
  });

  app.post('/asample', { bodyLimit: BODY_LIMIT_BYTES, schema: { hide, body: SampleBody } }, async (request) => {
    const { body, caller } = request;
    const { sampling_session_id: id, seq_id: seq } = body;
    if (id == null || seq == null) {
      throw new ProductError('invalid_request', 'Send sampling_session_id and seq_id: create a sampling client first.');
    }
    const call = samplingCallOf(body, await samplerOf(options, id, caller), limits);
    if (atOnce.waiting >= MAX_WAITING) {
      throw new ProductError('too_many_requests', 'As many calls wait to be sampled as may. Send it again.', {
        retryAfterSeconds: 2,
      });
    }
    const request_id = futureIdOf(id, seq);
    if (await store.beginOwn(request_id)) void answer(request_id, call, request);
    const count = body.num_samples ?? 1;
    return { request_id, sample_sequence_ids: Array.from({ length: count }, (_, at) => `${request_id}:${at}`) };
  });

  /** Samples, and writes the result. Never rejects. */
  const answer = async (id: string, call: SamplingCall, request: FastifyRequest): Promise<void> => {
    const renewals = setInterval(() => void store.renewOwn(id).catch(() => {}), RENEW_MS);
    try {
      const body = await atOnce.run(() => patiently(options, call, closing.signal), closing.signal);
      await store.endOwn(id, bytesOfOwnResult({ kind: 'done', body }));
    } catch (error) {
      // The client sends it again, to another process.
      if (closing.signal.aborted) return await store.dropOwn(id).catch(() => {});
      const { status, code, message } = productErrorOf(error, request);
      if (status >= 500) request.log.error({ err: error }, 'a call that samples failed');
      const category = status < 500 ? 'user' : 'server';
      await store.endOwn(id, bytesOfOwnResult({ kind: 'failed', category, code, message })).catch(() => {});
    } finally {
      clearInterval(renewals);
    }
  };
}

/** Samples, again while no worker can take it: the trainer may be at another base model. */
async function patiently(
  { generation, waitMs }: SamplingRoutesOptions,
  call: SamplingCall,
  signal: AbortSignal,
): Promise<Buffer> {
  const startMs = performance.now();
  for (;;) {
    try {
      return await sample(generation, call, { waitMs, signal });
    } catch (error) {
      const isPassing = error instanceof ProductError && error.code === 'service_unavailable';
      if (!isPassing || signal.aborted || performance.now() - startMs > PATIENCE_MS) throw error;
    }
  }
}

async function samplerOf({ store }: SamplingRoutesOptions, id: string, caller: Caller): Promise<Sampler> {
  const session = sessionOf(id);
  const sampler = session === null ? null : await store.sampler(session, id);
  if (sampler === null || (caller.sees !== 'all' && sampler.owner !== caller.owner)) {
    const message = `There is no sampler ${JSON.stringify(id.slice(0, 200))}. Its session may have ended: make a new sampling client.`;
    throw new ProductError('not_found', message);
  }
  return sampler;
}

/** The weights that a sampling session names: a checkpoint, an adapter of ours, or a base model. */
async function weightsOf(
  { own, directory }: SamplingRoutesOptions,
  { base_model: base, model_path: path }: { base_model?: string | null; model_path?: string | null },
  caller: Caller,
): Promise<Pick<Sampler, 'base_model' | 'weights' | 'model_path'>> {
  if (path?.startsWith('tinker://')) {
    const { checkpoint } = await own.checkpoint(parsePath(path), caller);
    return { base_model: checkpoint.base_model, weights: checkpoint.adapter, model_path: path };
  }
  if (path != null) {
    const { base_model, adapter } = await directory.resolve(path, caller);
    return { base_model, weights: adapter, model_path: path };
  }
  if (base == null) throw new ProductError('invalid_request', 'Send base_model or model_path.');
  return { base_model: (await own.baseModel(base)).name, weights: null, model_path: null };
}
