import { randomUUID } from 'node:crypto';
import { ProductError } from '@lorasmith/contracts';
import type { SessionCheckpoint, TrainingSessionStore } from '@lorasmith/queue';
import type { Caller, HttpApp } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { Static } from 'typebox';
import type { AccessLimits } from '../access/limits.js';
import { type AdapterUsers, beginAdapterDeletion, type RegistryClient } from '../adapters/registry-client.js';
import { copyCheckpoint, sessionOfCopy } from './copy-checkpoint.js';
import type { OwnSessions } from './own-sessions.js';
import { checkpointAnswer, runAnswer } from './rest-answers.js';
import { expiryOf, isCheckpointKind, modelIdOf, parsePath } from './tinker-names.js';
import {
  CheckpointParams,
  CopyWeights,
  IdempotencyHeader,
  IdParams,
  Page,
  Ttl,
  WeightsInfo,
} from './tinker-requests.js';

export interface CheckpointRoutesOptions {
  store: TrainingSessionStore;
  own: OwnSessions;
  users: AdapterUsers;
  registry: Pick<RegistryClient, 'removeAdapter'>;
  adapters: BundleStore;
  /** Refuses an adapter more, where the caller has no space for it. @throws ProductError `quota_exceeded`, `storage_full` */
  checkSpace(request: { caller: Caller; limits: AccessLimits }): Promise<void>;
}

const hide = true;

/** The lists of models and checkpoints, and what is done with a checkpoint. */
export async function checkpointRoutes(app: HttpApp, options: CheckpointRoutesOptions): Promise<void> {
  const { store, own } = options;

  app.get('/training_runs', { schema: { hide, querystring: Page } }, async ({ query: { limit, offset }, caller }) => {
    const ids = await store.modelsOf(caller.owner);
    const runs = await Promise.all(ids.slice(offset, offset + limit).map((id) => runOf(store, id)));
    return {
      training_runs: runs.filter((run) => run !== null),
      cursor: { offset, limit, total_count: ids.length },
    };
  });

  app.get('/training_runs/:id', { schema: { hide, params: IdParams } }, async ({ params: { id }, caller }) => {
    const model = await own.model(id, caller);
    return runAnswer(model, await store.checkpoints(id));
  });

  app.get(
    '/training_runs/:id/checkpoints',
    { schema: { hide, params: IdParams } },
    async ({ params: { id }, caller }) => {
      await own.model(id, caller);
      return { checkpoints: newestFirst(await store.checkpoints(id)).map((one) => checkpointAnswer(id, one)) };
    },
  );

  app.get('/checkpoints', { schema: { hide, querystring: Page } }, async ({ query: { limit, offset }, caller }) => {
    const ids = await store.modelsOf(caller.owner);
    const all = await Promise.all(
      ids.map(async (id) => (await store.checkpoints(id)).map((checkpoint) => ({ id, checkpoint }))),
    );
    const sorted = all.flat().sort((one, other) => byAge(one.checkpoint, other.checkpoint));
    return {
      checkpoints: sorted.slice(offset, offset + limit).map(({ id, checkpoint }) => checkpointAnswer(id, checkpoint)),
      cursor: { offset, limit, total_count: sorted.length },
    };
  });

  app.post('/weights_info', { schema: { hide, body: WeightsInfo } }, async ({ body, caller }) => {
    const { model } = await own.checkpoint(parsePath(body.tinker_path), caller);
    const { base_model, rank, train_attn, train_mlp, train_unembed } = model.record.spec;
    return { base_model, is_lora: true, lora_rank: rank, train_attn, train_mlp, train_unembed };
  });

  app.post(
    '/copy_weights',
    { schema: { hide, body: CopyWeights, headers: IdempotencyHeader } },
    async ({ body, headers, caller, limits }) => {
      const { source_path, ttl_seconds, model_seq_id: number } = body;
      if ((body.session_id == null) !== (number == null)) {
        throw new ProductError('invalid_request', 'Send session_id together with model_seq_id, or neither of them.');
      }
      if (body.session_id != null) await own.openSession(body.session_id, caller);
      const source = await own.checkpoint(parsePath(source_path), caller);
      await options.checkSpace({ caller, limits });
      const session = body.session_id ?? sessionOfCopy(caller.owner, headers['x-idempotency-key'] ?? randomUUID());
      const copy = {
        id: modelIdOf(session, number ?? 0),
        session,
        owner: caller.owner,
        expires_at: expiryOf(ttl_seconds),
      };
      return { tinker_path: await copyCheckpoint(options, source, copy) };
    },
  );

  const one = '/training_runs/:model/checkpoints/:kind/:name';
  const find = async (params: { model: string; kind: string; name: string }, caller: Caller) => {
    await own.model(params.model, caller);
    const { model, kind, name } = params;
    const path = { model, kind: isCheckpointKind(kind) ? kind : ('weights' as const), name };
    if (!isCheckpointKind(kind)) throw new ProductError('not_found', `There is no kind ${JSON.stringify(kind)}.`);
    return (await own.checkpoint(path, caller)).checkpoint;
  };

  const change = async (
    params: Static<typeof CheckpointParams>,
    caller: Caller,
    changes: Partial<Pick<SessionCheckpoint, 'expires_at' | 'public'>>,
  ) => {
    if (!(await store.changeCheckpoint(params.model, await find(params, caller), changes))) {
      throw new ProductError('conflict', 'The checkpoint was changed or removed at the same time. Look at it again.');
    }
    return {};
  };

  app.delete(one, { schema: { hide, params: CheckpointParams } }, async ({ params, caller }, reply) => {
    await removeCheckpoint(options, params.model, await find(params, caller));
    return await reply.code(204).send();
  });

  app.put(`${one}/ttl`, { schema: { hide, params: CheckpointParams, body: Ttl } }, async ({ params, body, caller }) => {
    return await change(params, caller, { expires_at: expiryOf(body.ttl_seconds) });
  });

  app.post(`${one}/publish`, { schema: { hide, params: CheckpointParams } }, async ({ params, caller }) =>
    change(params, caller, { public: true }),
  );
  app.delete(`${one}/publish`, { schema: { hide, params: CheckpointParams } }, async ({ params, caller }) =>
    change(params, caller, { public: false }),
  );

  app.get(
    `${one}/external_weights_urls`,
    { schema: { hide, params: CheckpointParams } },
    async ({ params, caller }) => {
      const { adapter } = await find(params, caller);
      const message = `Download the adapter with your key instead: GET /adapters/${adapter}, or lora adapters download ${adapter}.`;
      throw new ProductError('invalid_request', message);
    },
  );
}

/** Removes a checkpoint with its adapter. @throws ProductError `in_use`, `registry_unavailable` */
export async function removeCheckpoint(
  { store, users, registry }: Pick<CheckpointRoutesOptions, 'store' | 'users' | 'registry'>,
  model: string,
  checkpoint: SessionCheckpoint,
): Promise<void> {
  await beginAdapterDeletion(users, checkpoint.adapter);
  await registry.removeAdapter(checkpoint.adapter);
  // Last: one whose adapter is gone is removed again.
  await store.forgetCheckpoint(model, checkpoint);
}

async function runOf(store: TrainingSessionStore, id: string) {
  const model = await store.model(id);
  return model === null ? null : runAnswer(model, await store.checkpoints(id));
}

const byAge = (one: SessionCheckpoint, other: SessionCheckpoint) => other.created_at.localeCompare(one.created_at);
const newestFirst = (checkpoints: readonly SessionCheckpoint[]) => [...checkpoints].sort(byAge);
