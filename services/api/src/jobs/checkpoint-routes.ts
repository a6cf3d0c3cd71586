import { CheckpointList, closed, Job, PublishCheckpointRequest } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { answer, errorAnswers } from '../openapi/answers.js';
import type { JobContinuation } from './continue-job.js';
import { IdempotencyHeaders, jobIdOf } from './job-routes.js';

export interface CheckpointRoutesOptions {
  jobs: Pick<JobStore, 'checkpoints'>;
  continuation: JobContinuation;
}

const tags = ['jobs'];
const id = Type.String({ maxLength: 200 });
const step = Type.String({ maxLength: 200, description: "The number of the checkpoint's step, `best` or `last`." });

export async function checkpointRoutes(app: HttpApp, { jobs, continuation }: CheckpointRoutesOptions): Promise<void> {
  app.get(
    '/jobs/:id/checkpoints',
    {
      schema: {
        operationId: 'listCheckpoints',
        summary: 'The stored checkpoints of a job, newest first',
        tags,
        params: Type.Object({ id }, closed),
        response: { 200: answer('All of them.', CheckpointList), ...errorAnswers(404, 503) },
      },
    },
    async (request) => ({
      data: await jobs.checkpoints.list(jobIdOf(request.params.id)),
      has_more: false as const,
      next: null,
    }),
  );

  app.post(
    '/jobs/:id/checkpoints/:step/publish',
    {
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
    },
    async ({ params, body, headers, limits }, reply) => {
      const options = { ...body, idempotencyKey: headers['idempotency-key'], limits };
      const job = await continuation.publish(jobIdOf(params.id), params.step, options);
      return await reply.code(202).header('location', `/jobs/${job.id}`).send(job);
    },
  );
}
