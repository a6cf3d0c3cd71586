import { randomInt } from 'node:crypto';
import { type CheckpointKind, newIdentifier, ProductError, type SnapshotId } from '@lorasmith/contracts';
import type { TrainedModelRecord, TrainingSessionStore } from '@lorasmith/queue';
import type { Caller, HttpApp } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { decodeForwardBackwardRequest, WireError } from '@lorasmith/tinker-wire';
import type { Static } from 'typebox';
import type { AccessLimits } from '../access/limits.js';
import { queueRefusal, submit } from './numbered-calls.js';
import type { OwnSessions } from './own-sessions.js';
import { answerTinkerError } from './tinker-errors.js';
import { checkpointAdapterId, expiryOf, futureIdOf, modelIdOf, parsePath, samplerIdOf } from './tinker-names.js';
import { CreateModel, LoadWeights, ModelCall, OptimizerStep, SaveWeights } from './tinker-requests.js';

export interface ModelRoutesOptions {
  store: TrainingSessionStore;
  own: OwnSessions;
  snapshots: BundleStore;
  /** Refuses an adapter more, where the caller has no space for it. @throws ProductError `quota_exceeded`, `storage_full` */
  checkSpace(request: { caller: Caller; limits: AccessLimits }): Promise<void>;
}

/** A chunk of the client has at most 5 MB; a row alone may be longer. */
const MAX_BODY_BYTES = 32 * 2 ** 20;
const MAX_DATA = 1_024;
/** More than any context; the trainer knows that of the model. */
const MAX_ROW_TOKENS = 2 ** 20;
/** Limits, for docs/limits.md. */
export const tinkerLimits = {
  body: { value: MAX_BODY_BYTES, unit: 'bytes', beyond: '413 `body_too_large`' },
  data: { value: MAX_DATA, unit: 'rows', beyond: '400 `invalid_request`' },
};

const PROTOBUF = 'application/x-protobuf';
/** The bound of a random seed, exclusive. */
const SEEDS = 2 ** 31;
const hide = true;

/** The calls on models. Each answers with the id of its result, which is fetched later. */
export async function modelRoutes(app: HttpApp, options: ModelRoutesOptions): Promise<void> {
  const { store, own } = options;
  app.setErrorHandler(async (thrown, request, reply) => {
    try {
      return (await queueRefusal(options, thrown, request)) ?? answerTinkerError(thrown, request, reply);
    } catch (other) {
      return answerTinkerError(other, request, reply);
    }
  });
  app.addContentTypeParser(PROTOBUF, { parseAs: 'buffer' }, (_request, body, done) => done(null, body));

  app.post('/create_model', { schema: { hide, body: CreateModel } }, async ({ body, caller }) => {
    checkOptimizer(body.optimizer_config);
    const { lora_config: lora } = body;
    if (lora == null) throw refused('lora_config is missing: only LoRA is trained here, not the weights of the base.');
    const { session_id: session, model_seq_id: number, user_metadata } = body;
    await own.openSession(session, caller);
    const { name: base_model } = await own.baseModel(body.base_model);
    const { rank, train_attn = true, train_mlp = true, train_unembed = true } = lora;
    const spec = { base_model, rank, seed: lora.seed ?? randomInt(SEEDS), train_attn, train_mlp, train_unembed };
    return await begin(store, caller, {
      session,
      number,
      record: { spec, initial: null, user_metadata: user_metadata ?? {} },
    });
  });

  app.post('/get_info', { schema: { hide, body: ModelCall } }, async ({ body: { model_id }, caller }) => {
    const { base_model, rank } = (await own.model(model_id, caller)).record.spec;
    const tokenizer_id = await own.tokenizerOf(base_model);
    return {
      ...{ type: 'get_info', model_id, model_name: base_model, is_lora: true, lora_rank: rank },
      model_data: { arch: null, model_name: base_model, tokenizer_id },
    };
  });

  app.post('/unload_model', { schema: { hide, body: ModelCall } }, async ({ body: { model_id }, caller }) => {
    await own.model(model_id, caller);
    await store.endModel(model_id, 'Its client has unloaded it.');
    return { type: 'unload_model', model_id };
  });

  app.post('/forward_backward', { bodyLimit: MAX_BODY_BYTES, schema: { hide } }, async ({ body, caller }) => {
    if (!Buffer.isBuffer(body)) throw new ProductError('unsupported_media_type', `Send the body as ${PROTOBUF}.`);
    const { modelId, seqId, op } = decoded(body);
    await own.model(modelId, caller);
    return await submit(store, modelId, seqId, op);
  });

  app.post('/optim_step', { schema: { hide, body: OptimizerStep } }, async ({ body, caller }) => {
    const { model_id, seq_id, adam_params: adam } = body;
    if (adam === undefined) throw refused('Only the optimizer adamw is supported: send adam_params.');
    await own.model(model_id, caller);
    return await submit(store, model_id, seq_id, {
      kind: 'optimizer-step',
      learning_rate: adam.learning_rate ?? 1e-4,
      beta1: adam.beta1 ?? 0.9,
      beta2: adam.beta2 ?? 0.95,
      eps: adam.eps ?? 1e-12,
      weight_decay: adam.weight_decay ?? 0,
      grad_clip_norm: adam.grad_clip_norm ?? 0,
    });
  });

  const save = (kind: CheckpointKind, withOptimizer: boolean) => {
    return async ({ body, ...request }: { body: Static<typeof SaveWeights>; caller: Caller; limits: AccessLimits }) => {
      const { model_id: model, seq_id, ttl_seconds: ttl } = body;
      if (body.kind != null && body.kind !== 'snapshot')
        throw refused(`kind ${JSON.stringify(body.kind)} is not supported, only "snapshot".`);
      if ((body.age_encryption_recipients ?? []).length > 0)
        throw refused('Checkpoints are not encrypted here: leave age_encryption_recipients out.');
      await own.model(model, request.caller);
      const name = body.path ?? `call-${seq_id}`;
      const adapter = checkpointAdapterId(model, seq_id);
      const found = await store.checkpoint(model, { kind, name });
      if (found !== null && found.adapter !== adapter && body.overwrite !== true) {
        throw refused(`There is a checkpoint ${kind}/${name} of this model. Choose another name, or set overwrite.`);
      }
      await options.checkSpace(request);
      return await submit(store, model, seq_id, {
        kind: 'save-checkpoint',
        ...{ adapter, checkpoint: { kind, name }, withOptimizer },
        expires_at: expiryOf(ttl),
        user_metadata: body.user_metadata ?? {},
      });
    };
  };
  app.post('/save_weights', { schema: { hide, body: SaveWeights } }, save('weights', true));
  app.post('/save_weights_external', { schema: { hide, body: SaveWeights } }, save('external_weights', false));

  const saveForSampler = save('sampler_weights', false);
  app.post('/save_weights_for_sampler', { schema: { hide, body: SaveWeights } }, async (request) => {
    const { body, caller } = request;
    if (body.sampling_session_seq_id == null) return await saveForSampler(request);
    const { id: model, session, record } = await own.model(body.model_id, caller);
    const snapshot: SnapshotId = newIdentifier('sn') as SnapshotId;
    const id = samplerIdOf(session, body.sampling_session_seq_id);
    const sampler = {
      id,
      owner: caller.owner,
      session,
      base_model: record.spec.base_model,
      weights: snapshot,
      model_path: null,
    };
    const answer = await submit(store, model, body.seq_id, { kind: 'save-snapshot', snapshot, sampler });
    // Sent twice, the first of two snapshots is made; the other is only a number.
    for (const old of await store.addSnapshot(session, snapshot)) {
      await options.snapshots.delete(old);
      await store.forgetSnapshot(session, old);
    }
    return answer;
  });

  app.post('/load_weights', { schema: { hide, body: LoadWeights } }, async ({ body, caller }) => {
    checkOptimizer(body.optimizer_config);
    const { path, optimizer: withOptimizer } = body;
    const { model: from, checkpoint } = await own.checkpoint(parsePath(path), caller);
    if (withOptimizer && checkpoint.kind !== 'weights') {
      throw refused(`${path} has no state of the optimizer: load one that save_state has saved, or load it without.`);
    }
    const { adapter } = checkpoint;
    if (body.model_id != null && body.seq_id != null) {
      await own.model(body.model_id, caller);
      return await submit(store, body.model_id, body.seq_id, { kind: 'load', adapter, withOptimizer, path });
    }
    const { session_id: session, model_seq_id: number } = body;
    if (session == null || number == null) throw refused('Send model_id and seq_id, or session_id and model_seq_id.');
    await own.openSession(session, caller);
    const { spec } = from.record;
    if (body.base_model != null && (await own.baseModel(body.base_model)).name !== spec.base_model) {
      throw refused(`${path} was trained on ${spec.base_model}, and can be continued on that alone.`);
    }
    const record = { spec, initial: { adapter, withOptimizer, path }, user_metadata: body.user_metadata ?? {} };
    return await begin(store, caller, { session, number, record });
  });
}

/** Adds a model. Its result is that of the call 0. */
async function begin(
  store: TrainingSessionStore,
  { owner }: Caller,
  { session, number, record }: { session: string; number: number; record: TrainedModelRecord },
) {
  const id = modelIdOf(session, number);
  switch (await store.beginModel(id, { session, owner, record })) {
    case 'full':
      throw new ProductError(
        'too_many_requests',
        'You have as many models in training as may be. Try again when one has ended.',
      );
    case 'gone':
      throw refused('The session has ended. Create a new service client.');
    default:
      return { request_id: futureIdOf(id, 0), model_id: id };
  }
}

function decoded(body: Buffer) {
  try {
    return decodeForwardBackwardRequest(body, { maxDatums: MAX_DATA, maxTokens: MAX_ROW_TOKENS });
  } catch (error) {
    if (error instanceof WireError) throw refused(error.message);
    throw error;
  }
}

function checkOptimizer(config: { type: string } | null | undefined): void {
  if (config != null && config.type !== 'adamw') {
    throw refused(`The optimizer ${JSON.stringify(config.type.slice(0, 60))} is not supported, only adamw.`);
  }
}

function refused(message: string): ProductError {
  return new ProductError('invalid_request', message);
}
