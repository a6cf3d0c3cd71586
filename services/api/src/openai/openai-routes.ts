import { closed, OpenaiModel, OpenaiModelDeleted, OpenaiModelList } from '@lorasmith/contracts';
import { createErrorHandler, type HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { answer } from '../openapi/answers.js';
import { type FileRoutesOptions, fileRoutes } from './file-routes.js';
import { type FineTuningRoutesOptions, fineTuningRoutes } from './fine-tuning-routes.js';
import type { ModelDirectory } from './model-directory.js';
import { openaiErrorAnswers, openaiErrors } from './openai-errors.js';
import { type TextRoutesOptions, textRoutes } from './text-routes.js';

export interface OpenaiRoutesOptions {
  text: TextRoutesOptions;
  files: FileRoutesOptions;
  fineTuning: FineTuningRoutesOptions;
}

export const OPENAI_PREFIX = '/v1';
export const answerOpenaiError = createErrorHandler(openaiErrors);

/** The calls of the OpenAI API under `/v1`, with its objects and its errors. */
export async function openaiRoutes(root: HttpApp, options: OpenaiRoutesOptions): Promise<void> {
  await root.register(async (app: HttpApp) => routes(app, options), { prefix: OPENAI_PREFIX });
}

async function routes(app: HttpApp, { text, files, fineTuning }: OpenaiRoutesOptions): Promise<void> {
  app.setErrorHandler(answerOpenaiError);
  // Paths without a route are refused before this, and now by the error handler above.
  app.setNotFoundHandler(() => {});
  await app.register(textRoutes, text);
  await app.register(openaiModelRoutes, { directory: text.directory });
  await app.register(fileRoutes, files);
  await app.register(fineTuningRoutes, fineTuning);
}

const tags = ['openai'];
const params = Type.Object({ model: Type.String({ maxLength: 200 }) }, closed);

const listOpenaiModels = {
  schema: {
    operationId: 'listOpenaiModels',
    summary: 'Base models and adapters, as the OpenAI API lists models',
    description:
      "The base models by name, then the caller's names of adapters, then its newest 1,000 adapters. GET /adapters lists all.",
    tags,
    response: { 200: answer('The models.', OpenaiModelList), ...openaiErrorAnswers(503) },
  },
};

const getOpenaiModel = {
  schema: {
    operationId: 'getOpenaiModel',
    summary: 'One base model or adapter',
    tags,
    params,
    response: { 200: answer('The model.', OpenaiModel), ...openaiErrorAnswers(404, 503) },
  },
};

const deleteOpenaiModel = {
  schema: {
    operationId: 'deleteOpenaiModel',
    summary: 'Delete a fine-tuned model, which is an adapter',
    tags,
    params,
    response: { 200: answer('Deleted.', OpenaiModelDeleted), ...openaiErrorAnswers(404, 409, 503) },
  },
};

/** The models that requests can name, as the OpenAI API lists them. */
export async function openaiModelRoutes(app: HttpApp, { directory }: { directory: ModelDirectory }): Promise<void> {
  app.get('/models', listOpenaiModels, async ({ caller }) => ({
    object: 'list' as const,
    data: await directory.list(caller),
  }));

  app.get('/models/:model', getOpenaiModel, ({ params, caller }) => directory.describe(params.model, caller));

  app.delete('/models/:model', deleteOpenaiModel, async ({ params: { model }, caller }) => {
    await directory.delete(model, caller);
    return { id: model, object: 'model' as const, deleted: true as const };
  });
}
