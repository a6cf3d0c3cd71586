import type { ModelSource, PullStore } from '@lorasmith/base-models';
import {
  BaseModelDetail,
  BaseModelList,
  closed,
  ModelPull,
  ModelPullId,
  ModelPullList,
  ModelPullRequest,
  ProductError,
} from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { answer, errorAnswers } from './openapi/answers.js';

export interface ModelRoutesOptions {
  baseModels: ModelSource;
  pulls: PullStore;
}

const tags = ['models'];
const params = Type.Object({ id: ModelPullId }, closed);

const listModels = {
  schema: {
    operationId: 'listModels',
    summary: 'Base models on this host',
    tags,
    response: { 200: answer('All base models, by name.', BaseModelList), ...errorAnswers() },
  },
};

const getModel = {
  schema: {
    operationId: 'getModel',
    summary: 'One base model, with the modules that can be adapted',
    tags,
    params: Type.Object({ name: Type.String({ maxLength: 200 }) }, closed),
    response: { 200: answer('The model.', BaseModelDetail), ...errorAnswers(404) },
  },
};

const pullModel = {
  schema: {
    operationId: 'pullModel',
    summary: 'Fetch a base model from the Hugging Face hub',
    description:
      'Needs a key with the role `admin`, because all keys share the base models. A pull that failed is resumed by ' +
      'the same request: what has arrived is not fetched again.',
    tags,
    body: ModelPullRequest,
    response: {
      200: answer('It is being pulled already, or has been.', ModelPull),
      202: answer('Queued. `Location` is its address.', ModelPull),
      ...errorAnswers(409, 503),
    },
  },
};

const listModelPulls = {
  schema: {
    operationId: 'listModelPulls',
    summary: 'Pulls of base models, newest first',
    tags,
    response: { 200: answer('The pulls: one for each name.', ModelPullList), ...errorAnswers(503) },
  },
};

const getModelPull = {
  schema: {
    operationId: 'getModelPull',
    summary: 'One pull, with its progress',
    tags,
    params,
    response: { 200: answer('The pull.', ModelPull), ...errorAnswers(404, 503) },
  },
};

const cancelModelPull = {
  schema: {
    operationId: 'cancelModelPull',
    summary: 'Stop a pull, and remove what has arrived',
    description: 'Needs a key with the role `admin`. A pull that has ended does not change.',
    tags,
    params,
    response: {
      200: answer('It has ended.', ModelPull),
      202: answer('It ends once its puller has stopped.', ModelPull),
      ...errorAnswers(404, 503),
    },
  },
};

/** The routes of base models, and of their pulls from the Hugging Face hub. */
export async function modelRoutes(app: HttpApp, { baseModels, pulls }: ModelRoutesOptions): Promise<void> {
  app.get('/models', listModels, async () => ({ data: await baseModels.list(), has_more: false, next: null }));

  app.get('/models/:name', getModel, ({ params }) => baseModels.describe(params.name));

  app.post('/model-pulls', pullModel, async ({ body, log }, reply) => {
    const earlier = await earlierPull(body, { pulls, baseModels });
    if (earlier !== null) return await reply.code(200).send(earlier);
    const { pull, created } = await pulls.create(body);
    if (created) log.info({ pull: pull.id, repo: pull.repo, name: pull.name }, 'pull accepted');
    return await reply
      .code(created ? 202 : 200)
      .header('location', `/model-pulls/${pull.id}`)
      .send(pull);
  });

  app.get('/model-pulls', listModelPulls, async () => ({ data: await pulls.list() }));

  app.get('/model-pulls/:id', getModelPull, ({ params: { id } }) => pulls.get(id));

  app.post('/model-pulls/:id/cancel', cancelModelPull, async ({ params: { id } }, reply) => {
    const pull = await pulls.cancel(id);
    return await reply.code(pull.ended_at === null ? 202 : 200).send(pull);
  });
}

/**
 * The pull that has already done what is asked for; null if the name is free.
 * @throws ProductError `conflict` for a name in use
 */
async function earlierPull(
  { repo, revision = 'main', name = repo.slice(repo.indexOf('/') + 1) }: ModelPullRequest,
  { pulls, baseModels }: ModelRoutesOptions,
): Promise<ModelPull | null> {
  const existing = await baseModels.describe(name).catch((error: unknown) => {
    if (error instanceof ProductError && error.code === 'model_not_found') return null;
    throw error;
  });
  if (existing === null) return null;
  const done = (await pulls.list()).find((pull) => pull.name === name && pull.status === 'succeeded');
  const same = existing.origin !== null && done?.repo === repo && done.commit === existing.origin.commit;
  if (same && (done.revision === revision || done.commit === revision)) return done;
  const { origin } = existing;
  const from = origin === null ? '' : `, pulled from ${origin.repo} at ${origin.commit}`;
  const message = `There is a base model ${name} already${from}. Pull it under another name (name), or have that one removed first.`;
  throw new ProductError('conflict', message, { param: 'name' });
}
