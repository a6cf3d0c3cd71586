import {
  closed,
  PageQuery,
  ProductError,
  Sweep,
  SweepId,
  SweepPage,
  SweepPlan,
  SweepRequest,
} from '@lorasmith/contracts';
import type { JobStore, WantedOfSweep } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { IdempotencyHeaders } from '../jobs/job-routes.js';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import type { SweepSubmission } from './submit-sweep.js';
import { sweepAnswers } from './sweep-answer.js';

export interface SweepRoutesOptions {
  sweeps: JobStore['sweeps'];
  submission: SweepSubmission;
  /** Does at once what else would be done within a second. */
  advance: (id: SweepId) => Promise<void>;
}

const tags = ['sweeps'];
const params = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);
const CreateSweepQuery = Type.Object(
  { dry_run: Type.Optional(Type.Boolean({ description: 'Return the plan and queue nothing.' })) },
  closed,
);

const createSweep = {
  schema: {
    operationId: 'createSweep',
    summary: 'Queue a job for each variant of a sweep, or plan them with dry_run',
    tags,
    querystring: CreateSweepQuery,
    headers: IdempotencyHeaders,
    body: SweepRequest,
    response: {
      200: answer('With dry_run: what the sweep would do.', SweepPlan),
      202: answer('Queued. `Location` is its address.', Sweep),
      ...errorAnswers(400, 404, 409, 413, 422, 503, 504, 507),
    },
  },
};

const listSweeps = {
  schema: {
    operationId: 'listSweeps',
    summary: 'Sweeps, newest first',
    tags,
    querystring: PageQuery,
    response: { 200: answer('A page of them.', SweepPage), ...errorAnswers(400, 503) },
  },
};

const getSweep = {
  schema: {
    operationId: 'getSweep',
    summary: 'One sweep with its variants',
    tags,
    params,
    response: { 200: answer('The sweep.', Sweep), ...errorAnswers(404, 503) },
  },
};

const deleteSweep = {
  schema: {
    operationId: 'deleteSweep',
    summary: 'Delete the record of a sweep that has ended; its jobs and adapters stay',
    tags,
    params,
    response: { 204: noBody('Deleted.'), ...errorAnswers(404, 409, 503) },
  },
};

export async function sweepRoutes(app: HttpApp, { sweeps, submission, advance }: SweepRoutesOptions): Promise<void> {
  const sweepOf = async (id: SweepId): Promise<Sweep> => {
    const record = await sweeps.get(id);
    if (record === null) throw sweepNotFound(id);
    const [sweep] = await sweepAnswers(sweeps, [record]);
    return sweep!;
  };
  /** Records what is wanted first: if this process dies, another one asks the rest of the jobs. */
  const want = async (id: SweepId, wanted: WantedOfSweep): Promise<Sweep> => {
    await sweeps.want(id, wanted);
    await advance(id);
    return await sweepOf(id);
  };

  app.post('/sweeps', createSweep, async ({ id, log, body, query, headers, caller, limits }, reply) => {
    if (query.dry_run === true) return await submission.dryRun(body, caller);
    const idempotencyKey = headers['idempotency-key'];
    const record = await submission.submit(body, { idempotencyKey, requestId: id, caller, limits });
    log.info({ sweep: record.id, jobs: record.variants.length }, 'sweep accepted');
    const [sweep] = await sweepAnswers(sweeps, [record]);
    return await reply.code(202).header('location', `/sweeps/${record.id}`).send(sweep!);
  });

  app.get('/sweeps', listSweeps, async ({ query, caller }) => {
    if (query.after !== undefined && !Value.Check(SweepId, query.after)) {
      throw new ProductError('invalid_request', 'after is not the id of a sweep.', { param: 'after' });
    }
    const owner = caller.sees === 'all' ? undefined : caller.owner;
    const page = await sweeps.list({ owner, after: query.after, limit: query.limit });
    return { ...page, data: await sweepAnswers(sweeps, page.data) };
  });

  app.get('/sweeps/:id', getSweep, (request) => sweepOf(sweepIdOf(request.params.id)));

  for (const [name, wanted, summary] of [
    ['cancel', 'cancel', 'Cancel all unfinished jobs of a sweep'],
    ['pause', 'pause', 'Pause all unfinished jobs of a sweep'],
    ['resume', 'run', 'Resume the paused jobs of a sweep'],
  ] as const) {
    app.post(
      `/sweeps/:id/${name}`,
      {
        schema: {
          operationId: `${name}Sweep`,
          summary,
          tags,
          params,
          response: {
            202: answer('All jobs have been asked, as one job is.', Sweep),
            ...errorAnswers(404, 409, 503),
          },
        },
      },
      async (request, reply) => await reply.code(202).send(await want(sweepIdOf(request.params.id), wanted)),
    );
  }

  app.delete('/sweeps/:id', deleteSweep, async (request, reply) => {
    const id = sweepIdOf(request.params.id);
    // It has ended for its user, although adapters of its losers may be left to delete.
    if ((await sweeps.get(id))?.outcome != null) await advance(id);
    await sweeps.remove(id);
    return await reply.code(204).send();
  });
}

/** Answers an invalid id like one that does not exist. @throws ProductError `sweep_not_found` */
export function sweepIdOf(id: string): SweepId {
  if (Value.Check(SweepId, id)) return id;
  throw sweepNotFound(id);
}

/** The error for a sweep that does not exist, or that the caller may not use. */
export function sweepNotFound(id: string): ProductError {
  return new ProductError('sweep_not_found', `There is no sweep ${JSON.stringify(id.slice(0, 100))}.`);
}
