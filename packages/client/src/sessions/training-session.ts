import { ProductError, type SessionLoss } from '@lorasmith/contracts';
import { decodeForwardBackwardOutput, encodeForwardBackwardRequest } from '@lorasmith/tinker-wire';
import { ApiError } from '../api-error.js';
import type { HttpTransport } from '../http-transport.js';
import { Sampler } from './sampler.js';
import { type CallBody, type CallResult, isRefusal, SessionCalls } from './session-calls.js';
import { datumOf, partsOf, type SessionRow } from './session-rows.js';

/** A new adapter on a base model. */
export interface NewSession {
  /** A name of `GET /models`. */
  base_model: string;
  /** The rank of the adapter, whose alpha is 32. */
  rank: number;
  /** The seed of the initial matrices A. @defaultValue chosen at random */
  seed?: number;
  /** @defaultValue true */
  train_attn?: boolean;
  /** @defaultValue true */
  train_mlp?: boolean;
  /** True for the output head. @defaultValue true */
  train_unembed?: boolean;
}

/** A model that continues what was saved. */
export interface ContinuedSession {
  /** The path of a saved state. */
  from: string;
  /** True to continue with the moments of the optimizer, too. @defaultValue true */
  with_optimizer?: boolean;
}

/** The settings of a step of AdamW. */
export interface StepSettings {
  /** @defaultValue 1e-4 */
  learning_rate?: number;
  /** @defaultValue 0.9 */
  beta1?: number;
  /** @defaultValue 0.95 */
  beta2?: number;
  /** @defaultValue 1e-12 */
  eps?: number;
  /** @defaultValue 0 */
  weight_decay?: number;
  /** The most that the norm of the gradient may be; 0: any. @defaultValue 0 */
  grad_clip_norm?: number;
}

export interface SaveSettings {
  /** True to replace what has the name already. @defaultValue false */
  overwrite?: boolean;
  /** Seconds after which it is removed. @defaultValue never */
  ttl_seconds?: number;
}

export interface SavedWeights {
  /** Its path, from which a session continues. */
  path: string;
  /** The adapter, which is listed, downloaded and delivered as any other. */
  adapter: string;
}

export interface LossResult {
  /** The sum over all targets. */
  loss: number;
  /** The log-probabilities of the targets of each row: `[n]`, or `[n, k]` row by row. */
  logprobs: Float32Array[];
  /** Sums over all rows, by `name:sum`. */
  metrics: Record<string, number>;
}

/** The loss of log-probabilities, and its derivative by each of them. */
export interface CustomLoss {
  loss: number;
  /** `[n]` of each row, as the log-probabilities. */
  gradients: readonly ArrayLike<number>[];
}

const BEAT_MS = 10_000;

/**
 * A model that is trained call by call: your loop has the data and the losses, the worker the gradients.
 *
 * Calls may follow each other without waiting. They are done in the order in which they are made, and results come in that order.
 */
export class TrainingSession {
  readonly #calls: SessionCalls;
  readonly #session: string;
  readonly #model: string;
  readonly #beats: ReturnType<typeof setInterval>;
  /** Ends when the calls before have been sent, and when their results have come. */
  #sending: Promise<unknown> = Promise.resolve();
  #fetching: Promise<unknown> = Promise.resolve();
  /** The number of the next call. */
  #next = 1;
  #samplers = 0;
  /** Why no more calls are sent: one may have arrived or not. */
  #broken: unknown = null;

  /** @see createTrainingSession */
  constructor(calls: SessionCalls, ids: { session: string; model: string }, beats: ReturnType<typeof setInterval>) {
    this.#calls = calls;
    this.#session = ids.session;
    this.#model = ids.model;
    this.#beats = beats;
  }

  /**
   * Adds the gradient of a loss to that of the model. Rows beyond 1,024, or beyond 5 MB, are several calls.
   * @param settings - of the loss: `clip_low_threshold`, `clip_high_threshold`, `beta`
   * @throws ProductError with the code of the failure: nothing was added by the call that failed
   */
  async forwardBackward(
    rows: readonly SessionRow[],
    loss: SessionLoss = 'cross_entropy',
    settings: Record<string, number> = {},
  ): Promise<LossResult> {
    return await this.#passes(rows, { loss, settings, isForwardOnly: false });
  }

  /** The loss of rows, without a gradient. @throws as forwardBackward */
  async forward(
    rows: readonly SessionRow[],
    loss: SessionLoss = 'cross_entropy',
    settings: Record<string, number> = {},
  ): Promise<LossResult> {
    return await this.#passes(rows, { loss, settings, isForwardOnly: true });
  }

  /**
   * Adds the gradient of any loss of the log-probabilities, with a forward pass more.
   * @param lossOf - the loss and its derivatives
   * @throws as forwardBackward
   */
  async forwardBackwardCustom(
    rows: readonly SessionRow[],
    lossOf: (logprobs: Float32Array[]) => CustomLoss | Promise<CustomLoss>,
  ): Promise<LossResult> {
    const plain = rows.map(({ tokens, targets }) => ({ tokens, targets }));
    const { logprobs, metrics } = await this.forward(plain);
    const { loss, gradients } = await lossOf(logprobs);
    if (gradients.length !== rows.length) {
      throw new ProductError(
        'invalid_request',
        `The loss has gradients of ${gradients.length} rows, not ${rows.length}.`,
      );
    }
    // The derivative of the cross entropy by a log-probability is minus its weight.
    const weighted = plain.map((row, at) => ({
      ...row,
      inputs: { weights: Float32Array.from(gradients[at]!, (value) => -value) },
    }));
    await this.forwardBackward(weighted);
    return { loss, logprobs, metrics };
  }

  /**
   * Updates the adapter by its gradient, which is zero afterwards.
   * @returns the norm of the gradient before it was clipped; null: there was no gradient, and nothing was changed
   */
  async optimStep(settings: StepSettings = {}): Promise<{ gradient_norm: number | null }> {
    const result = await this.#json('/optim_step', { adam_params: settings });
    const { metrics = {} } = result as { metrics?: Record<string, number> };
    return { gradient_norm: metrics['grad_norm:mean'] ?? null };
  }

  /** Saves the adapter with the moments of the optimizer, so that a session can continue from it. */
  async saveState(name: string, settings: SaveSettings = {}): Promise<SavedWeights> {
    return await this.#save('/save_weights', name, settings);
  }

  /** Saves the adapter alone. */
  async saveWeights(name: string, settings: SaveSettings = {}): Promise<SavedWeights> {
    return await this.#save('/save_weights_for_sampler', name, settings);
  }

  /** Sets the adapter to what was saved, and the optimizer to its moments, or to none. The gradient is zero afterwards. */
  async loadState(
    path: string,
    { with_optimizer: optimizer = true }: { with_optimizer?: boolean } = {},
  ): Promise<void> {
    await this.#json('/load_weights', { path, optimizer });
  }

  /** A sampler of the model as it is after the calls so far. */
  async sampler(): Promise<Sampler> {
    const sampling_session_seq_id = this.#samplers++;
    const result = await this.#json('/save_weights_for_sampler', { sampling_session_seq_id });
    return new Sampler(this.#calls, (result as { sampling_session_id: string }).sampling_session_id);
  }

  /** A sampler of other weights: of a base model, or of an adapter by its id, its name or the path of saved weights. */
  async samplerOf(weights: { base_model: string } | { adapter: string }): Promise<Sampler> {
    const of = 'adapter' in weights ? { model_path: weights.adapter } : weights;
    const answer = await this.#calls.post('/create_sampling_session', {
      session_id: this.#session,
      sampling_session_seq_id: this.#samplers++,
      ...of,
    });
    return new Sampler(this.#calls, (answer as { sampling_session_id: string }).sampling_session_id);
  }

  /** Ends the session, and frees what it uses. What was saved stays. Calls in work are cancelled. */
  async close(): Promise<void> {
    clearInterval(this.#beats);
    this.#calls.close(new ProductError('cancelled', 'The session is closed.'));
    // One that is away frees it after five minutes.
    await this.#calls.postOnce(`/sessions/${this.#session}/finish`).catch(() => {});
  }

  async #passes(
    rows: readonly SessionRow[],
    op: { loss: SessionLoss; settings: Record<string, number>; isForwardOnly: boolean },
  ): Promise<LossResult> {
    if (rows.length === 0) throw new ProductError('invalid_request', 'There are no rows.', { param: 'rows' });
    const parts = partsOf(rows.map(datumOf));
    const results = await Promise.all(
      parts.map(async (data) => {
        const of = { kind: 'forward-backward' as const, ...op, data };
        const encode = (seqId: number) => encodeForwardBackwardRequest({ modelId: this.#model, seqId, op: of });
        return decodeForwardBackwardOutput((await this.#numbered('/forward_backward', encode)) as Uint8Array);
      }),
    );
    const metrics: Record<string, number> = {};
    for (const result of results) {
      for (const [name, value] of Object.entries(result.metrics)) metrics[name] = (metrics[name] ?? 0) + value;
    }
    return { loss: metrics['loss:sum']!, logprobs: results.flatMap((result) => result.logProbabilities), metrics };
  }

  async #save(route: string, path: string, settings: SaveSettings): Promise<SavedWeights> {
    const result = await this.#json(route, { path, ...settings });
    return { path: result.path as string, adapter: result.adapter as string };
  }

  async #json(path: string, body: object): Promise<Record<string, unknown>> {
    const result = await this.#numbered(path, (seq_id) => ({ model_id: this.#model, seq_id, ...body }));
    return result as Record<string, unknown>;
  }

  /** A call that has a place among those of the model. Its number is used again if it was refused, and nothing has it. */
  #numbered(path: string, bodyOf: (number: number) => CallBody): Promise<CallResult> {
    const sent = this.#sending.then(async () => {
      if (this.#broken !== null) throw this.#broken;
      try {
        const answer = await this.#calls.post(path, bodyOf(this.#next));
        this.#next++;
        return (answer as { request_id: string }).request_id;
      } catch (error) {
        if (!isRefusal(error)) this.#broken = error;
        throw error;
      }
    });
    const fetched = Promise.all([sent, this.#fetching]).then(async ([id]) => await this.#calls.result(id));
    this.#sending = sent.catch(() => {});
    this.#fetching = fetched.catch(() => {});
    return fetched;
  }
}

/**
 * Opens a session, and waits until its model is in the memory of a worker.
 * @throws ApiError where it is refused; ProductError with the code of the failure
 */
export async function createTrainingSession(
  transport: HttpTransport,
  of: NewSession | ContinuedSession,
): Promise<TrainingSession> {
  const calls = new SessionCalls(transport);
  const { session_id } = (await calls.post('/create_session')) as { session_id: string };
  const beats = setInterval(() => {
    calls.postOnce('/session_heartbeat', { session_id }).catch((error: unknown) => {
      // Only an end is said. Another failure is of one of many.
      if (error instanceof ApiError && error.status === 410) calls.close(new ProductError('cancelled', error.message));
    });
  }, BEAT_MS);
  // A program that forgets the session ends, and the service frees it.
  (beats as { unref?: () => void }).unref?.();
  try {
    const { request_id } = (await calls.post(...openingOf(of, session_id))) as { request_id: string };
    const { model_id } = (await calls.result(request_id)) as { model_id: string };
    return new TrainingSession(calls, { session: session_id, model: model_id }, beats);
  } catch (error) {
    clearInterval(beats);
    await calls.postOnce(`/sessions/${session_id}/finish`).catch(() => {});
    throw error;
  }
}

function openingOf(of: NewSession | ContinuedSession, session_id: string): [path: string, body: object] {
  if ('from' in of) {
    const { from: path, with_optimizer: optimizer = true } = of;
    return ['/load_weights', { session_id, model_seq_id: 0, path, optimizer }];
  }
  const { base_model, ...lora_config } = of;
  return ['/create_model', { session_id, model_seq_id: 0, base_model, lora_config }];
}
