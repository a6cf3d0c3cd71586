import type { ModelSource } from '@lorasmith/base-models';
import { BaseModelDetail, BaseModelList, closed } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { answer, errorAnswers } from '../openapi/answers.js';

const tags = ['models'];

export async function modelRoutes(app: HttpApp, { baseModels }: { baseModels: ModelSource }): Promise<void> {
  app.get(
    '/models',
    {
      schema: {
        operationId: 'listModels',
        summary: 'Base models on this host',
        tags,
        response: { 200: answer('All base models, by name.', BaseModelList), ...errorAnswers() },
      },
    },
    async () => ({ data: await baseModels.list(), has_more: false, next: null }),
  );

  app.get(
    '/models/:name',
    {
      schema: {
        operationId: 'getModel',
        summary: 'One base model, with the modules that can be adapted',
        tags,
        params: Type.Object({ name: Type.String({ maxLength: 200 }) }, closed),
        response: { 200: answer('The model.', BaseModelDetail), ...errorAnswers(404) },
      },
    },
    ({ params }) => baseModels.describe(params.name),
  );
}
