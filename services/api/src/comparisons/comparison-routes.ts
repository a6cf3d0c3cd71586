import {
  Comparison,
  ComparisonId,
  ComparisonPage,
  ComparisonRequest,
  ComparisonRowPage,
  ComparisonRowsQuery,
  closed,
  PageQuery,
  ProductError,
} from '@lorasmith/contracts';
import { comparisonNotFound, type JobStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import type { ComparisonRequests } from './comparison-requests.js';

export interface ComparisonRoutesOptions {
  store: JobStore['comparisons'];
  requests: ComparisonRequests;
}

const tags = ['comparisons'];
const params = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);
const DEFAULT_ROWS = 20;

const createComparison = {
  schema: {
    operationId: 'createComparison',
    summary: 'Compare two models over the prompts of a dataset, with a model as the judge',
    tags,
    body: ComparisonRequest,
    response: {
      202: answer('Queued. `Location` is its address.', Comparison),
      ...errorAnswers(400, 404, 422, 503),
    },
  },
};

const listComparisons = {
  schema: {
    operationId: 'listComparisons',
    summary: 'Comparisons, newest first',
    tags,
    querystring: PageQuery,
    response: { 200: answer('A page of them.', ComparisonPage), ...errorAnswers(400, 503) },
  },
};

const getComparison = {
  schema: {
    operationId: 'getComparison',
    summary: 'One comparison, with its result',
    tags,
    params,
    response: { 200: answer('The comparison.', Comparison), ...errorAnswers(404, 503) },
  },
};

const listComparisonRows = {
  schema: {
    operationId: 'listComparisonRows',
    summary: 'Rows of a comparison side by side: prompt, both answers, both verdicts',
    tags,
    params,
    querystring: ComparisonRowsQuery,
    response: {
      200: answer('A page of those that have been begun.', ComparisonRowPage),
      ...errorAnswers(400, 404, 503),
    },
  },
};

const cancelComparison = {
  schema: {
    operationId: 'cancelComparison',
    summary: 'Cancel a comparison; the rows that were judged stay',
    tags,
    params,
    response: {
      200: answer('It has ended.', Comparison),
      202: answer('It ends once its process has stopped.', Comparison),
      ...errorAnswers(404, 503),
    },
  },
};

const deleteComparison = {
  schema: {
    operationId: 'deleteComparison',
    summary: 'Delete a comparison that has ended, with its rows',
    tags,
    params,
    response: { 204: noBody('Deleted.'), ...errorAnswers(404, 409, 503) },
  },
};

/** The routes of comparisons. */
export async function comparisonRoutes(app: HttpApp, { store, requests }: ComparisonRoutesOptions): Promise<void> {
  app.post('/comparisons', createComparison, async ({ body, caller, log }, reply) => {
    const comparison = await requests.create(body, caller);
    log.info({ comparison: comparison.id, dataset: comparison.dataset }, 'comparison accepted');
    return await reply.code(202).header('location', `/comparisons/${comparison.id}`).send(comparison);
  });

  app.get('/comparisons', listComparisons, async ({ query: { after, limit }, caller }) => {
    if (after !== undefined && !Value.Check(ComparisonId, after)) {
      throw new ProductError('invalid_request', 'after is not the id of a comparison.', { param: 'after' });
    }
    return await store.list({ owner: caller.sees === 'all' ? undefined : caller.owner, after, limit });
  });

  app.get('/comparisons/:id', getComparison, ({ params: { id } }) => store.get(comparisonIdOf(id)));

  app.get('/comparisons/:id/rows', listComparisonRows, async ({ params, query }) => {
    const id = comparisonIdOf(params.id);
    const { after = 0, limit = DEFAULT_ROWS } = query;
    const { progress } = await store.get(id);
    const total = progress?.total ?? 0;
    const end = Math.min(after + limit, total);
    const numbers = Array.from({ length: Math.max(0, end - after) }, (_, index) => after + index + 1);
    const has_more = end < total;
    return { data: await store.rows(id, numbers), has_more, next: has_more ? end : null };
  });

  app.post('/comparisons/:id/cancel', cancelComparison, async ({ params: { id } }, reply) => {
    const comparison = await store.cancel(comparisonIdOf(id));
    return await reply.code(comparison.ended_at === null ? 202 : 200).send(comparison);
  });

  app.delete('/comparisons/:id', deleteComparison, async ({ params: { id } }, reply) => {
    await store.remove(comparisonIdOf(id));
    return await reply.code(204).send();
  });
}

/** Answers an invalid id like one that does not exist. @throws ProductError `comparison_not_found` */
export function comparisonIdOf(id: string): ComparisonId {
  if (Value.Check(ComparisonId, id)) return id;
  throw comparisonNotFound(id);
}
