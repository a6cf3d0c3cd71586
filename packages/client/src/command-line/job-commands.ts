import { readFile } from 'node:fs/promises';
import { type Job, type JobRequest, type JobStatus, ProductError } from '@lorasmith/contracts';
import { createJobProgress } from '../job-progress.js';
import { reportText } from '../report-text.js';
import { type Command, type CommandContext, moreText, PAGE_OPTIONS, pageQueryOf, print } from './command.js';
import { JOB_FLAGS, jobRequestOf } from './job-flags.js';
import { textTable } from './text-table.js';

export const JOB_COMMANDS: Command[] = [
  {
    name: 'jobs create',
    positionals: [],
    summary: 'Queue a job; --dry-run only tells what it would do, --watch follows it',
    options: {
      model: { type: 'string' },
      dataset: { type: 'string' },
      name: { type: 'string' },
      request: { type: 'string' },
      'idempotency-key': { type: 'string' },
      'dry-run': { type: 'boolean' },
      watch: { type: 'boolean' },
      ...Object.fromEntries(JOB_FLAGS.map(({ flag }) => [flag, { type: 'string' as const }])),
    },
    help: [
      '--model NAME --dataset ID     what to train, on what',
      '--request FILE                the request as JSON; the flags go over it',
      '--idempotency-key KEY         makes the call safe to repeat',
      ...JOB_FLAGS.map(({ flag, description }) => `--${flag.padEnd(27)} ${description}`),
    ],
    run: createJob,
  },
  {
    name: 'jobs list',
    positionals: [],
    summary: 'Jobs, newest first; --status STATUS only those',
    options: { ...PAGE_OPTIONS, status: { type: 'string' } },
    async run(context) {
      const status = context.values.status as JobStatus | undefined;
      const query = { ...pageQueryOf(context.values), ...(status === undefined ? {} : { status }) };
      const page = await context.client.listJobs(query, context);
      const rows = page.data.map((job) => [
        job.id,
        job.name ?? '-',
        job.base_model,
        progressOf(job),
        job.adapter ?? '-',
      ]);
      return print(context, page, textTable(['ID', 'NAME', 'MODEL', 'STATUS', 'ADAPTER'], rows) + moreText(page));
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
  {
    name: 'jobs watch',
    positionals: ['ID'],
    summary: 'Follow a job to its end; Ctrl-C stops watching, not the job',
    run: (context) => watch(context, context.positionals[0]!),
  },
  {
    name: 'jobs cancel',
    positionals: ['ID'],
    summary: 'Cancel a job that waits or runs',
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
    name: 'jobs delete',
    positionals: ['ID'],
    summary: 'Delete the record of a job that has ended',
    async run(context) {
      const id = context.positionals[0]!;
      await context.client.deleteJob(id, context);
      return print(context, { id, deleted: true }, `${id} is deleted`);
    },
  },
];

async function createJob(context: CommandContext): Promise<number> {
  const { client, values, signal } = context;
  const file = values.request as string | undefined;
  const request = jobRequestOf(values, file === undefined ? {} : await readRequest(file));
  if (values['dry-run']) {
    const report = await client.dryRun(request, { signal });
    return print(context, report, reportText(report).join('\n'));
  }
  const idempotencyKey = values['idempotency-key'] as string | undefined;
  const job = await client.createJob(request, { idempotencyKey, signal });
  if (values.watch) return await watch(context, job.id);
  return print(context, job, `${job.id}  ${job.status}`);
}

async function readRequest(file: string): Promise<Partial<JobRequest>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Partial<JobRequest>;
  } catch (cause) {
    throw new ProductError('invalid_request', `Cannot read ${file} as JSON: ${(cause as Error).message}`, { cause });
  }
}

async function watch({ client, output, signal, json }: CommandContext, id: string): Promise<number> {
  const progress = createJobProgress(output);
  try {
    const job = await client.waitForJob(id, {
      signal,
      onEvent: (event) => (json ? output.write(`${JSON.stringify(event)}\n`) : progress.handle(event)),
    });
    return job.status === 'succeeded' ? 0 : 1;
  } finally {
    progress.end();
  }
}

function progressOf({ status, progress }: Job): string {
  return status === 'running' && progress !== null ? `${status} ${progress.step}/${progress.total_steps}` : status;
}

function jobText(job: Job): string {
  return [
    `${job.id}  ${progressOf(job)}${job.name === null ? '' : `  ${job.name}`}`,
    `dataset       ${job.dataset}`,
    ...(job.report === null ? [`base model    ${job.base_model}`] : reportText(job.report)),
    ...(job.adapter === null ? [] : [`adapter       ${job.adapter}`]),
    ...(job.error === null ? [] : [`error         ${job.error.code}: ${job.error.message}`]),
  ].join('\n');
}
