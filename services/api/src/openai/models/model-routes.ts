import { closed, OpenaiModel, OpenaiModelDeleted, OpenaiModelList } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { answer } from '../../openapi/answers.js';
import { openaiErrorAnswers } from '../openai-errors.js';
import type { ModelDirectory } from './model-directory.js';

const tags = ['openai'];
const params = Type.Object({ model: Type.String({ maxLength: 200 }) }, closed);

/** The models that requests can name, as the OpenAI API lists them. */
export async function openaiModelRoutes(app: HttpApp, { directory }: { directory: ModelDirectory }): Promise<void> {
  app.get(
    '/models',
    {
      schema: {
        operationId: 'listOpenaiModels',
        summary: 'Base models and adapters, as the OpenAI API lists models',
        description: "The base models by name, then the caller's newest 1,000 adapters. GET /adapters lists all.",
        tags,
        response: { 200: answer('The models.', OpenaiModelList), ...openaiErrorAnswers(503) },
      },
    },
    async ({ caller }) => ({ object: 'list' as const, data: await directory.list(caller) }),
  );

  app.get(
    '/models/:model',
    {
      schema: {
        operationId: 'getOpenaiModel',
        summary: 'One base model or adapter',
        tags,
        params,
        response: { 200: answer('The model.', OpenaiModel), ...openaiErrorAnswers(404, 503) },
      },
    },
    ({ params, caller }) => directory.describe(params.model, caller),
  );

  app.delete(
    '/models/:model',
    {
      schema: {
        operationId: 'deleteOpenaiModel',
        summary: 'Delete a fine-tuned model, which is an adapter',
        tags,
        params,
        response: { 200: answer('Deleted.', OpenaiModelDeleted), ...openaiErrorAnswers(404, 409, 503) },
      },
    },
    async ({ params: { model }, caller }) => {
      await directory.delete(model, caller);
      return { id: model, object: 'model' as const, deleted: true as const };
    },
  );
}
