import {
  CheckpointList,
  closed,
  DetailsChange,
  detailsFilterOf,
  Job,
  JobId,
  JobPage,
  JobQuery,
  JobRequest,
  ProductError,
  PublishCheckpointRequest,
  Report,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import type { JobContinuation } from './continue-job.js';
import type { JobSubmission } from './submit-job.js';

export interface JobRoutesOptions {
  jobs: JobStore;
  submission: JobSubmission;
  continuation: JobContinuation;
}

const tags = ['jobs'];
const id = Type.String({ maxLength: 200 });
const params = Type.Object({ id }, closed);
const CreateJobQuery = Type.Object(
  { dry_run: Type.Optional(Type.Boolean({ description: 'Return the report and queue nothing.' })) },
  closed,
);
/** Headers of calls that create a job. */
export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      pattern: '^[\\x21-\\x7e]{1,255}$',
      description: 'The same key with the same request within a day returns the same job; with another request 409.',
    }),
  ),
});

const createJob = {
  schema: {
    operationId: 'createJob',
    summary: 'Queue a training job, or plan it with dry_run',
    tags,
    querystring: CreateJobQuery,
    headers: IdempotencyHeaders,
    body: JobRequest,
    response: {
      200: answer('With dry_run: what the job would do.', Report),
      202: answer('Queued. `Location` is its address.', Job),
      ...errorAnswers(400, 404, 409, 413, 422, 503, 504, 507),
    },
  },
};

const listJobs = {
  schema: {
    operationId: 'listJobs',
    summary: 'Jobs, newest first unless sorted otherwise, with the number of those that match',
    tags,
    querystring: JobQuery,
    response: { 200: answer('A page of them.', JobPage), ...errorAnswers(400, 503) },
  },
};

const getJob = {
  schema: {
    operationId: 'getJob',
    summary: 'One job',
    tags,
    params,
    response: { 200: answer('The job.', Job), ...errorAnswers(404, 503) },
  },
};

const changeJob = {
  schema: {
    operationId: 'changeJob',
    summary: 'Change the name, tags or note of a job, whatever its state',
    tags,
    params,
    body: DetailsChange,
    response: { 200: answer('The changed job.', Job), ...errorAnswers(404, 503) },
  },
};

const cancelJob = {
  schema: {
    operationId: 'cancelJob',
    summary: 'Cancel a waiting, running or paused job',
    tags,
    params,
    response: {
      200: answer('Cancelled.', Job),
      202: answer('The job is running. It is cancelled once its worker has stopped.', Job),
      ...errorAnswers(404, 409, 503),
    },
  },
};

const pauseJob = {
  schema: {
    operationId: 'pauseJob',
    summary: 'Pause a waiting or running job, which keeps its checkpoint and its place in the queue',
    tags,
    params,
    response: {
      200: answer('Paused.', Job),
      202: answer('The job is running. It is paused after a step, once a checkpoint is saved.', Job),
      ...errorAnswers(404, 409, 503),
    },
  },
};

const resumeJob = {
  schema: {
    operationId: 'resumeJob',
    summary: 'Resume a failed, cancelled or paused job from its last checkpoint',
    tags,
    params,
    response: {
      202: answer('Queued again. A pause that has not taken effect is withdrawn.', Job),
      ...errorAnswers(404, 409, 503, 507),
    },
  },
};

const deleteJob = {
  schema: {
    operationId: 'deleteJob',
    summary: 'Delete the record and the checkpoints of a job that has ended; its adapter stays',
    tags,
    params,
    response: { 204: noBody('Deleted.'), ...errorAnswers(404, 409, 503) },
  },
};

/** The routes of jobs, without their checkpoints and events. */
export async function jobRoutes(app: HttpApp, { jobs, submission, continuation }: JobRoutesOptions): Promise<void> {
  app.post('/jobs', createJob, async ({ id, log, body, query, headers, caller, limits }, reply) => {
    if (query.dry_run === true) return await submission.dryRun(body, caller);
    const idempotencyKey = headers['idempotency-key'];
    const job = await submission.submit(body, { idempotencyKey, requestId: id, caller, limits });
    log.info({ job: job.id, dataset: job.dataset, base_model: job.base_model }, 'job accepted');
    return await reply.code(202).header('location', `/jobs/${job.id}`).send(job);
  });

  app.get('/jobs', listJobs, ({ query, caller }) => {
    if (query.after !== undefined && !Value.Check(JobId, query.after)) {
      throw new ProductError('invalid_request', 'after is not the id of a job.', { param: 'after' });
    }
    const { name, tag, created_after, created_before, ...others } = query;
    const filter = detailsFilterOf({ name, tag, created_after, created_before });
    const owner = caller.sees === 'all' ? undefined : caller.owner;
    return jobs.listJobs({ ...others, ...filter, owner });
  });

  app.get('/jobs/:id', getJob, async (request) => {
    const id = jobIdOf(request.params.id);
    const job = await jobs.getJob(id);
    if (job === null) throw jobNotFound(id);
    return { ...job, queue: await jobs.queue.forecast(job) };
  });

  app.patch('/jobs/:id', changeJob, async (request) => {
    const job = await jobs.changeDetails(jobIdOf(request.params.id), request.body);
    request.log.info({ job: job.id, fields: Object.keys(request.body) }, 'job changed');
    return job;
  });

  app.post('/jobs/:id/cancel', cancelJob, async (request, reply) => {
    const job = await jobs.requestCancel(jobIdOf(request.params.id));
    return await reply.code(job.status === 'cancelled' ? 200 : 202).send(job);
  });

  app.post('/jobs/:id/pause', pauseJob, async (request, reply) => {
    const job = await jobs.requestPause(jobIdOf(request.params.id));
    return await reply.code(job.status === 'paused' ? 200 : 202).send(job);
  });

  app.post('/jobs/:id/resume', resumeJob, async ({ params: { id }, limits }, reply) => {
    return await reply.code(202).send(await continuation.resume(jobIdOf(id), limits));
  });

  app.delete('/jobs/:id', deleteJob, async (request, reply) => {
    await jobs.deleteJob(jobIdOf(request.params.id));
    return await reply.code(204).send();
  });
}

const step = Type.String({ maxLength: 200, description: "The number of the checkpoint's step, `best` or `last`." });

const listCheckpoints = {
  schema: {
    operationId: 'listCheckpoints',
    summary: 'The stored checkpoints of a job, newest first',
    tags,
    params,
    response: { 200: answer('All of them.', CheckpointList), ...errorAnswers(404, 503) },
  },
};

const publishCheckpoint = {
  schema: {
    operationId: 'publishCheckpoint',
    summary: 'Publish a checkpoint of an ended job as an adapter',
    description:
      'Queues a new job that trains nothing. It makes an adapter of the checkpoint and checks it as at the end ' +
      'of a training. Its `adapter` is the result.',
    tags,
    params: Type.Object({ id, step }, closed),
    headers: IdempotencyHeaders,
    body: Type.Union([PublishCheckpointRequest, Type.Null()]),
    response: {
      202: answer('Queued. `Location` is its address.', Job),
      ...errorAnswers(400, 404, 409, 413, 503, 507),
    },
  },
};

/** The routes of the checkpoints of a job. */
export async function checkpointRoutes(
  app: HttpApp,
  { jobs, continuation }: Pick<JobRoutesOptions, 'jobs' | 'continuation'>,
): Promise<void> {
  app.get('/jobs/:id/checkpoints', listCheckpoints, async (request) => ({
    data: await jobs.checkpoints.list(jobIdOf(request.params.id)),
    has_more: false as const,
    next: null,
  }));

  app.post(
    '/jobs/:id/checkpoints/:step/publish',
    publishCheckpoint,
    async ({ params, body, headers, limits }, reply) => {
      const options = { ...body, idempotencyKey: headers['idempotency-key'], limits };
      const job = await continuation.publish(jobIdOf(params.id), params.step, options);
      return await reply.code(202).header('location', `/jobs/${job.id}`).send(job);
    },
  );
}

/** Answers an invalid id like one that does not exist. @throws ProductError `job_not_found` */
export function jobIdOf(id: string): JobId {
  if (Value.Check(JobId, id)) return id;
  throw jobNotFound(id);
}

/** The error for a job that does not exist, or that the caller may not use. */
export function jobNotFound(id: string): ProductError {
  return new ProductError('job_not_found', `There is no job ${JSON.stringify(id.slice(0, 100))}.`);
}
