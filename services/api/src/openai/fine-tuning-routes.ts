import type { ModelSource } from '@lorasmith/base-models';
import {
  closed,
  type FineTuningCheckpoint,
  FineTuningCheckpointList,
  FineTuningEventList,
  FineTuningJob,
  FineTuningJobList,
  FineTuningRequest,
  type Job,
  JobId,
  ProductError,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import type { AccessLimits } from '../access/limits.js';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import type { JobContinuation } from '../jobs/continue-job.js';
import { IdempotencyHeaders, jobIdOf, jobNotFound } from '../jobs/job-routes.js';
import type { JobSubmission } from '../jobs/submit-job.js';
import { answer } from '../openapi/answers.js';
import {
  fineTuningCheckpointOf,
  fineTuningEventOf,
  fineTuningJobOf,
  throwAsFineTuningFault,
} from './fine-tuning-job.js';
import { jobOfRequest } from './job-of-request.js';
import type { ModelDirectory } from './model-directory.js';
import { openaiErrorAnswers } from './openai-errors.js';

export interface FineTuningRoutesOptions {
  jobs: JobStore;
  submission: JobSubmission;
  continuation: JobContinuation;
  directory: ModelDirectory;
  baseModels: ModelSource;
  catalog: DatasetCatalog;
  adapters: BundleStore;
}

const tags = ['openai'];
const params = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);
const pageQuery = (what: string, defaultLimit: number) =>
  Type.Object(
    {
      after: Type.Optional(
        Type.String({ maxLength: 100, description: `Id of the last ${what} of the previous page.` }),
      ),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: defaultLimit })),
    },
    closed,
  );
/** The default of the OpenAI API. */
const DEFAULT_LIMIT = 20;
const DEFAULT_CHECKPOINTS = 10;

const createFineTuningJob = {
  schema: {
    operationId: 'createFineTuningJob',
    summary: 'Queue a fine-tuning job',
    description: 'Supervised fine-tuning. Fields of the OpenAI API that are not listed are refused by their names.',
    tags,
    headers: IdempotencyHeaders,
    body: FineTuningRequest,
    response: { 200: answer('Queued.', FineTuningJob), ...openaiErrorAnswers(400, 404, 409, 413, 503, 504, 507) },
  },
};

const listFineTuningJobs = {
  schema: {
    operationId: 'listFineTuningJobs',
    summary: 'Jobs, newest first, also those of POST /jobs',
    tags,
    querystring: pageQuery('job', DEFAULT_LIMIT),
    response: { 200: answer('A page of them.', FineTuningJobList), ...openaiErrorAnswers(400, 503) },
  },
};

const getFineTuningJob = {
  schema: {
    operationId: 'getFineTuningJob',
    summary: 'One job',
    tags,
    params,
    response: { 200: answer('The job.', FineTuningJob), ...openaiErrorAnswers(404, 503) },
  },
};

const listFineTuningEvents = {
  schema: {
    operationId: 'listFineTuningEvents',
    summary: 'The events of a job so far, newest first',
    tags,
    params,
    querystring: pageQuery('event', DEFAULT_LIMIT),
    response: { 200: answer('A page of them.', FineTuningEventList), ...openaiErrorAnswers(400, 404, 503) },
  },
};

const listFineTuningCheckpoints = {
  schema: {
    operationId: 'listFineTuningCheckpoints',
    summary: 'The stored checkpoints of a job, newest first',
    tags,
    params,
    querystring: pageQuery('checkpoint', DEFAULT_CHECKPOINTS),
    response: { 200: answer('A page of them.', FineTuningCheckpointList), ...openaiErrorAnswers(400, 404, 503) },
  },
};

/** Jobs as the OpenAI API has them: the same as those of `/jobs`. */
export async function fineTuningRoutes(app: HttpApp, options: FineTuningRoutesOptions): Promise<void> {
  const { jobs, submission } = options;

  const existingJob = async (id: string): Promise<Job> => {
    const job = await jobs.getJob(jobIdOf(id));
    if (job === null) throw jobNotFound(id);
    return job;
  };

  app.post('/fine_tuning/jobs', createFineTuningJob, async ({ id, log, body, headers, caller, limits }) => {
    const request = await jobOfRequest(body, caller, options);
    const submitted = { idempotencyKey: headers['idempotency-key'], requestId: id, caller, limits };
    const job = await submission
      .submit(request, submitted)
      .catch((error: unknown) => throwAsFineTuningFault(error, request.objective));
    log.info({ job: job.id, dataset: job.dataset, base_model: job.base_model }, 'job accepted');
    return await fineTuningJobOf(job, options);
  });

  app.get('/fine_tuning/jobs', listFineTuningJobs, async ({ query: { after, limit = DEFAULT_LIMIT }, caller }) => {
    if (after !== undefined && !Value.Check(JobId, after)) {
      throw new ProductError('invalid_request', 'after is not the id of a job.', { param: 'after' });
    }
    const owner = caller.sees === 'all' ? undefined : caller.owner;
    const page = await jobs.listJobs({ owner, after, limit });
    const data = await Promise.all(page.data.map((job) => fineTuningJobOf(job, options)));
    return { object: 'list' as const, data, has_more: page.has_more };
  });

  app.get(
    '/fine_tuning/jobs/:id',
    getFineTuningJob,
    async ({ params: { id } }) => await fineTuningJobOf(await existingJob(id), options),
  );

  registerChanges(app, options);

  app.get(
    '/fine_tuning/jobs/:id/events',
    listFineTuningEvents,
    async ({ params: { id }, query: { after, limit = DEFAULT_LIMIT } }) => {
      const page = await jobs.newestEvents(jobIdOf(id), { after, limit });
      return { object: 'list' as const, data: page.data.map(fineTuningEventOf), has_more: page.has_more };
    },
  );

  app.get(
    '/fine_tuning/jobs/:id/checkpoints',
    listFineTuningCheckpoints,
    async ({ params: { id }, query: { after, limit = DEFAULT_CHECKPOINTS } }) => {
      const job = await existingJob(id);
      const all = (await jobs.checkpoints.list(job.id)).map((one) => fineTuningCheckpointOf(one, job));
      return { object: 'list' as const, ...pageOf(all, { after, limit }) };
    },
  );
}

/** The calls that change a job, each of which answers with it. */
function registerChanges(app: HttpApp, options: FineTuningRoutesOptions): void {
  const { jobs, continuation } = options;
  const changes = [
    [
      'cancel',
      'Cancel a job. While it runs, its status changes once its worker has stopped',
      (id: JobId) => jobs.requestCancel(id),
    ],
    [
      'pause',
      'Pause a job. While it runs, its status changes once its worker has saved a checkpoint',
      (id: JobId) => jobs.requestPause(id),
    ],
    [
      'resume',
      'Resume a paused, failed or cancelled job from its last checkpoint',
      (id: JobId, limits: AccessLimits) => continuation.resume(id, limits),
    ],
  ] as const;
  for (const [verb, summary, change] of changes) {
    app.post(
      `/fine_tuning/jobs/:id/${verb}`,
      {
        schema: {
          operationId: `${verb}FineTuningJob`,
          summary,
          tags,
          params,
          response: { 200: answer('The job.', FineTuningJob), ...openaiErrorAnswers(404, 409, 503, 507) },
        },
      },
      async ({ params: { id }, limits }) => await fineTuningJobOf(await change(jobIdOf(id), limits), options),
    );
  }
}

/** A page of checkpoints. @throws ProductError `invalid_request` if there is none `after` */
function pageOf(
  checkpoints: readonly FineTuningCheckpoint[],
  { after, limit }: { after: string | undefined; limit: number },
) {
  const start = after === undefined ? 0 : checkpoints.findIndex((one) => one.id === after) + 1;
  if (after !== undefined && start === 0) {
    throw new ProductError('invalid_request', 'after is not the id of a stored checkpoint.', { param: 'after' });
  }
  const data = checkpoints.slice(start, start + limit);
  const ends = { first_id: data.at(0)?.id ?? null, last_id: data.at(-1)?.id ?? null };
  return { data, ...ends, has_more: start + limit < checkpoints.length };
}
