import { readFile } from 'node:fs/promises';
import { type Job, type JobRequest, type JobStatus, ProductError } from '@lorasmith/contracts';
import { faultLines } from '../fault-lines.js';
import { bytesText, durationText } from '../human-units.js';
import { createJobProgress } from '../job-progress.js';
import { reportText } from '../report-text.js';
import { type Command, type CommandContext, moreText, PAGE_OPTIONS, pageQueryOf, print } from './command.js';
import { JOB_FLAGS, jobRequestOf } from './job-flags.js';
import { textTable } from './text-table.js';

export const JOB_COMMANDS: Command[] = [
  {
    name: 'jobs create',
    positionals: [],
    summary: 'Queue a job; --dry-run only shows what it would do, --watch follows it',
    options: {
      model: { type: 'string' },
      dataset: { type: 'string' },
      name: { type: 'string' },
      priority: { type: 'string' },
      sample: { type: 'string', multiple: true },
      'sample-every-steps': { type: 'string' },
      request: { type: 'string' },
      'idempotency-key': { type: 'string' },
      'dry-run': { type: 'boolean' },
      watch: { type: 'boolean' },
      ...Object.fromEntries(JOB_FLAGS.map(({ flag }) => [flag, { type: 'string' as const }])),
    },
    help: [
      '--model NAME --dataset ID     the base model and the dataset to train it on',
      '--request FILE                the request as JSON; flags override it',
      '--priority PRIORITY           low, normal or high, among the jobs of the key [normal]',
      '--sample PROMPT               a prompt that is answered before, during and after training; may be repeated',
      '--sample-every-steps N        answers them every N steps too',
      '--idempotency-key KEY         makes the call safe to repeat',
      ...JOB_FLAGS.map(({ flag, description }) => `--${flag.padEnd(27)} ${description}`),
    ],
    run: createJob,
  },
  {
    name: 'jobs list',
    positionals: [],
    summary: 'Jobs, newest first; --status STATUS filters them',
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
    summary: 'Follow a job until it ends; Ctrl-C stops watching, not the job',
    run: (context) => watch(context, context.positionals[0]!),
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
    name: 'jobs resume',
    positionals: ['ID'],
    summary: 'Resume a failed or cancelled job from its last checkpoint; --watch follows it',
    options: { watch: { type: 'boolean' } },
    async run(context) {
      const job = await context.client.resumeJob(context.positionals[0]!, context);
      if (context.values.watch) return await watch(context, job.id);
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
    options: { name: { type: 'string' }, 'idempotency-key': { type: 'string' }, watch: { type: 'boolean' } },
    help: [
      '--name NAME                   of the adapter',
      '--idempotency-key KEY         makes the call safe to repeat',
    ],
    async run(context) {
      const [id, step] = context.positionals as [string, string];
      const job = await context.client.publishCheckpoint(id, checkpointOf(step), {
        name: context.values.name as string | undefined,
        idempotencyKey: context.values['idempotency-key'] as string | undefined,
        signal: context.signal,
      });
      if (context.values.watch) return await watch(context, job.id);
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

function checkpointOf(step: string): number | 'best' | 'last' {
  if (step === 'best' || step === 'last') return step;
  if (/^\d{1,10}$/.test(step)) return Number(step);
  throw new ProductError('invalid_request', `${JSON.stringify(step)} is not a step; give a number, best or last.`);
}

async function readRequest(file: string): Promise<Partial<JobRequest>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Partial<JobRequest>;
  } catch (cause) {
    throw new ProductError('invalid_request', `Cannot read ${file} as JSON: ${(cause as Error).message}`, { cause });
  }
}

async function watch({ client, output, signal, json }: CommandContext, id: string): Promise<number> {
  const watched = json ? null : await client.getJob(id, { signal });
  const progress = createJobProgress(output, { prompts: watched?.samples?.prompts });
  const queue = watched && queueText(watched);
  if (queue !== null) output.write(`${queue}\n`);
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

/** `3 jobs wait before it, starts in about 5 min, ends in about 12 min`; null: nothing is known. */
function queueText({ status, queue }: Job): string | null {
  if (!queue) return null;
  const { ahead, estimated_start: start, estimated_end: end } = queue;
  const inTime = (time: string) => durationText(Math.max(0, (Date.parse(time) - Date.now()) / 1000));
  const parts = [
    ...(status === 'queued' ? [ahead === 1 ? '1 job waits before it' : `${ahead} jobs wait before it`] : []),
    ...(start === null ? [] : [`starts in about ${inTime(start)}`]),
    ...(end === null ? [] : [`ends in about ${inTime(end)}`]),
  ];
  return parts.length === 0 ? null : parts.join(', ');
}

function progressOf({ status, progress }: Job): string {
  return status === 'running' && progress !== null ? `${status} ${progress.step}/${progress.total_steps}` : status;
}

function jobText(job: Job): string {
  return [
    `${job.id}  ${progressOf(job)}${job.name === null ? '' : `  ${job.name}`}`,
    ...(queueText(job) === null ? [] : [`queue         ${queueText(job)}`]),
    `dataset       ${job.dataset}`,
    ...(job.report === null ? [`base model    ${job.base_model}`] : reportText(job.report)),
    ...(job.adapter === null ? [] : [`adapter       ${job.adapter}`]),
    ...(job.error === null
      ? []
      : [`error         ${job.error.code}: ${job.error.message}`, ...faultLines(job.error.details)]),
  ].join('\n');
}
