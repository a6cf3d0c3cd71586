import { randomUUID } from 'node:crypto';
import { ProductError } from '@lorasmith/contracts';
import type { TrainingSessionStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import type { OwnSessions } from './own-sessions.js';
import { metadataOf } from './rest-answers.js';
import { CreateSession, Heartbeat, IdParams, Page } from './tinker-requests.js';

export interface SessionRoutesOptions {
  store: TrainingSessionStore;
  own: OwnSessions;
}

/** The settings of the client; others have its defaults. Its samples at once are bounded by how many are waited for here. */
const CLIENT_CONFIG = { sample_max_concurrent_requests: 256 };

/** The calls about sessions of clients, and about the service. */
export async function sessionRoutes(app: HttpApp, { store, own }: SessionRoutesOptions): Promise<void> {
  const hide = true;

  app.get('/healthz', { schema: { hide } }, async () => ({ status: 'ok' }));
  app.post('/client/config', { schema: { hide } }, async () => CLIENT_CONFIG);
  // What the client measures of itself is not kept.
  app.post('/telemetry', { schema: { hide } }, async () => ({ status: 'accepted' }));

  app.get('/get_server_capabilities', { schema: { hide } }, async () => {
    const models = await own.usableModels();
    return {
      supported_models: models.flatMap(({ name, origin, max_positions }) => {
        const names = origin === null || origin.repo === name ? [name] : [name, origin.repo];
        return names.map((model_name) => ({
          model_name,
          max_context_length: max_positions,
          trainable: true,
          sampleable: true,
        }));
      }),
    };
  });

  app.post('/create_session', { schema: { hide, body: CreateSession } }, async ({ body, caller }) => {
    const id = randomUUID().replaceAll('-', '');
    const begun = await store.beginSession(id, caller.owner, {
      tags: body.tags ?? [],
      sdk_version: body.sdk_version ?? null,
      project_id: body.project_id ?? null,
      user_metadata: body.user_metadata ?? {},
      created_at: new Date().toISOString(),
    });
    if (!begun)
      throw new ProductError('too_many_requests', 'Too many sessions are open. Try again when some have ended.');
    return { type: 'create_session', session_id: id };
  });

  app.post('/session_heartbeat', { schema: { hide, body: Heartbeat } }, async ({ body, caller }, reply) => {
    const { ended } = await own.session(body.session_id, caller);
    if (ended === null && (await store.beat(body.session_id))) return { type: 'session_heartbeat' };
    return await reply.code(410).send({ detail: `The session has ended: ${ended ?? 'it was ended just now.'}` });
  });

  app.post('/sessions/:id/finish', { schema: { hide, params: IdParams } }, async ({ params: { id }, caller }) => {
    await own.session(id, caller);
    await store.endSession(id, 'Its client has finished it.');
    return {};
  });

  app.get('/sessions', { schema: { hide, querystring: Page } }, async ({ query: { limit, offset }, caller }) => {
    const sessions: string[] = [];
    for (const id of await store.openSessions()) {
      const session = await store.session(id);
      if (session !== null && session.owner === caller.owner) sessions.push(id);
    }
    return { sessions: sessions.slice(offset, offset + limit) };
  });

  app.get('/sessions/:id', { schema: { hide, params: IdParams } }, async ({ params: { id }, caller }) => {
    const { record } = await own.session(id, caller);
    return {
      training_run_ids: await store.modelsOfSession(id),
      sampler_ids: await store.samplersOf(id),
      user_metadata: metadataOf(record.user_metadata),
    };
  });

  // Optional calls of newer clients, which they take for not there.
  app.post('/client/dynamic_config', { schema: { hide, body: Type.Optional(Type.Unknown()) } }, async (_, reply) =>
    reply.code(404).send({ detail: 'The settings of the client do not change.' }),
  );
}
