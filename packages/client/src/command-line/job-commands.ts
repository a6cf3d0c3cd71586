import { type EventType, type Job, type JobQuery, ProductError } from '@lorasmith/contracts';
import { faultLines } from '../api-error.js';
import { createJobProgress } from '../job-progress.js';
import { queueReasonText, reportText } from '../report-text.js';
import { stateText } from '../sweep-text.js';
import { bytesText, durationText, printableJson } from '../text-output.js';
import {
  type Command,
  type CommandContext,
  IDEMPOTENCY_OPTION,
  moreText,
  print,
  textTable,
  WATCH_OPTION,
} from './command.js';
import {
  detailsText,
  editCommand,
  FILTER_OPTIONS,
  filterQueryOf,
  given,
  orderOptions,
  totalText,
} from './details-commands.js';
import { JOB_OPTIONS, jobRequestOf, RECIPE_HELP, readRequest } from './job-flags.js';

export const JOB_COMMANDS: Command[] = [
  {
    name: 'jobs create',
    positionals: [],
    summary: 'Queue a job; --dry-run only shows what it would do, --watch follows it',
    options: {
      ...JOB_OPTIONS,
      dataset: { type: 'string', value: 'ID', help: 'the dataset to train it on' },
      ...IDEMPOTENCY_OPTION,
      'dry-run': { type: 'boolean', help: 'only show what it would do' },
      ...WATCH_OPTION,
    },
    help: [...RECIPE_HELP],
    run: createJob,
  },
  {
    name: 'jobs list',
    positionals: [],
    summary: 'Jobs, newest first unless sorted',
    options: {
      status: {
        type: 'string',
        help: 'only those with this: queued, preparing, running, paused, succeeded, failed or cancelled',
      },
      find: { type: 'string', value: 'TEXT', help: 'only those with this text in name, id, model, dataset or tags' },
      ...FILTER_OPTIONS,
      model: { type: 'string', value: 'NAME', help: 'only those of this base model' },
      dataset: { type: 'string', value: 'ID', help: 'only those of this dataset' },
      sweep: { type: 'string', value: 'ID', help: 'only those of this sweep' },
      ...orderOptions('name, status, duration, time, training.learning_rate, …', 'created_at, time and duration'),
    },
    async run(context) {
      const { status, find, model, dataset, sweep, sort, order } = context.values as Record<string, string | undefined>;
      const own = given({ status, q: find, base_model: model, dataset, sweep, sort, order });
      const query = { ...filterQueryOf(context.values), ...own } as JobQuery;
      const page = await context.client.listJobs(query, context);
      const rows = page.data.map((job) => [
        job.id,
        job.name ?? '-',
        job.base_model,
        progressOf(job),
        job.adapter ?? '-',
      ]);
      const table = textTable(['ID', 'NAME', 'MODEL', 'STATUS', 'ADAPTER'], rows);
      return print(context, page, table + totalText(page) + moreText(page));
    },
  },
  {
    name: 'jobs show',
    positionals: ['ID'],
    summary: 'One job',
    async run(context) {
      const job = await context.client.getJob(context.positionals[0]!, context);
      return print(context, job, jobText(job));
    },
  },
  editCommand('jobs', (client, id, details, call) => client.changeJob(id, details, call)),
  {
    name: 'jobs watch',
    positionals: ['ID'],
    summary: 'Follow a job until it ends; Ctrl-C stops watching, not the job',
    run: (context) => watchToEnd(context, context.positionals[0]!),
  },
  {
    name: 'jobs cancel',
    positionals: ['ID'],
    summary: 'Cancel an unfinished job',
    async run(context) {
      const job = await context.client.cancelJob(context.positionals[0]!, context);
      return print(
        context,
        job,
        job.status === 'cancelled' ? `${job.id} is cancelled` : `${job.id} is being cancelled`,
      );
    },
  },
  {
    name: 'jobs pause',
    positionals: ['ID'],
    summary: 'Pause a waiting or running job, until it is resumed',
    async run(context) {
      const job = await context.client.pauseJob(context.positionals[0]!, context);
      const state = job.status === 'paused' ? 'is paused' : 'is paused once its step is done';
      return print(context, job, `${job.id} ${state}`);
    },
  },
  {
    name: 'jobs resume',
    positionals: ['ID'],
    summary: 'Resume a failed, cancelled or paused job from its last checkpoint; --watch follows it',
    options: WATCH_OPTION,
    async run(context) {
      const job = await context.client.resumeJob(context.positionals[0]!, context);
      if (context.values.watch) return await watchToEnd(context, job.id);
      return print(context, job, `${job.id}  ${job.status}`);
    },
  },
  {
    name: 'jobs checkpoints',
    positionals: ['ID'],
    summary: 'The stored checkpoints of a job',
    async run(context) {
      const checkpoints = await context.client.checkpoints(context.positionals[0]!, context);
      const rows = checkpoints.map((one) => [
        String(one.step),
        one.epoch?.toFixed(2) ?? '-',
        one.train_loss?.toFixed(4) ?? '-',
        one.eval_loss?.toFixed(4) ?? '-',
        bytesText(one.bytes),
        [one.is_best ? 'best' : '', one.is_last ? 'last' : ''].filter(Boolean).join(', ') || '-',
      ]);
      return print(context, checkpoints, textTable(['STEP', 'EPOCH', 'LOSS', 'EVAL LOSS', 'SIZE', ''], rows));
    },
  },
  {
    name: 'jobs publish',
    positionals: ['ID', 'STEP'],
    summary: 'Publish a checkpoint as an adapter: a step, or best, or last; --watch follows it',
    options: { name: { type: 'string', help: 'of the adapter' }, ...IDEMPOTENCY_OPTION, ...WATCH_OPTION },
    async run(context) {
      const [id, step] = context.positionals as [string, string];
      const job = await context.client.publishCheckpoint(id, checkpointOf(step), {
        name: context.values.name as string | undefined,
        idempotencyKey: context.values['idempotency-key'] as string | undefined,
        signal: context.signal,
      });
      if (context.values.watch) return await watchToEnd(context, job.id);
      return print(context, job, `${job.id}  ${job.status}`);
    },
  },
  {
    name: 'jobs delete',
    positionals: ['ID'],
    summary: 'Delete the record of an ended job',
    async run(context) {
      const id = context.positionals[0]!;
      await context.client.deleteJob(id, context);
      return print(context, { id, deleted: true }, `${id} is deleted`);
    },
  },
];

async function createJob(context: CommandContext): Promise<number> {
  const { client, values, signal } = context;
  const request = jobRequestOf(values, await readRequest(values));
  if (values['dry-run']) {
    const report = await client.dryRun(request, { signal });
    return print(context, report, reportText(report).join('\n'));
  }
  const idempotencyKey = values['idempotency-key'] as string | undefined;
  const job = await client.createJob(request, { idempotencyKey, signal });
  if (values.watch) return await watchToEnd(context, job.id);
  return print(context, job, `${job.id}  ${job.status}`);
}

function checkpointOf(step: string): number | 'best' | 'last' {
  if (step === 'best' || step === 'last') return step;
  if (/^\d{1,10}$/.test(step)) return Number(step);
  throw new ProductError('invalid_request', `${JSON.stringify(step)} is not a step; give a number, best or last.`);
}

async function watchToEnd(context: CommandContext, id: string): Promise<number> {
  const job = await watchJob(context, id);
  return job.status === 'succeeded' ? 0 : 1;
}

function progressOf(job: Job): string {
  const { status, progress } = job;
  return status === 'running' && progress !== null
    ? `${status} ${progress.step}/${progress.total_steps}`
    : stateText(job);
}

function jobText(job: Job): string {
  return [
    `${job.id}  ${progressOf(job)}${job.name === null ? '' : `  ${job.name}`}`,
    ...detailsText({ ...job, name: null }),
    ...(queueText(job) === null ? [] : [`queue         ${queueText(job)}`]),
    `dataset       ${job.dataset}`,
    ...(job.report === null ? [`base model    ${job.base_model}`] : reportText(job.report)),
    ...(job.adapter === null ? [] : [`adapter       ${job.adapter}`]),
    ...(job.error === null
      ? []
      : [`error         ${job.error.code}: ${job.error.message}`, ...faultLines(job.error.details)]),
  ].join('\n');
}

/**
 * Shows the events of a job until it ends.
 * @param hidden types of events that are not shown
 */
export async function watchJob(
  { client, output, signal, json }: CommandContext,
  id: string,
  hidden: readonly EventType[] = [],
): Promise<Job> {
  const watched = json ? null : await client.getJob(id, { signal });
  const progress = createJobProgress(output, { prompts: watched?.samples?.prompts });
  const queue = watched && queueText(watched);
  if (queue !== null) output.write(`${queue}\n`);
  try {
    return await client.waitForJob(id, {
      signal,
      onEvent: (event) => {
        if (hidden.includes(event.type)) return;
        if (json) output.write(`${printableJson(event)}\n`);
        else progress.handle(event);
      },
    });
  } finally {
    progress.end();
  }
}

/** `3 jobs wait before it, all workers are busy with other jobs, starts in about 5 min, ends in about 12 min`; null: nothing is known. */
function queueText({ status, queue }: Job): string | null {
  if (!queue) return null;
  const { ahead, reason, estimated_start: start, estimated_end: end } = queue;
  const inTime = (time: string) => durationText(Math.max(0, (Date.parse(time) - Date.now()) / 1000));
  const parts = [
    ...(status === 'queued' ? [ahead === 1 ? '1 job waits before it' : `${ahead} jobs wait before it`] : []),
    ...(reason === null ? [] : [queueReasonText(reason)]),
    ...(start === null ? [] : [`starts in about ${inTime(start)}`]),
    ...(end === null ? [] : [`ends in about ${inTime(end)}`]),
  ];
  return parts.length === 0 ? null : parts.join(', ');
}
