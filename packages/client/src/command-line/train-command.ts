import { stat } from 'node:fs/promises';
import { type Job, ProductError } from '@lorasmith/contracts';
import { reportText } from '../report-text.js';
import {
  advised,
  type Command,
  type CommandContext,
  confirm,
  createTransferProgress,
  print,
  refuseWithoutTerminal,
  repeatKeyOf,
} from './command.js';
import { COLUMNS_OPTION, digestOfRows, storedDataset } from './dataset-commands.js';
import { watchJob } from './job-commands.js';
import { JOB_OPTIONS, jobRequestOf, RECIPE_HELP, readRequest } from './job-flags.js';

/** The command from rows in a file to an adapter on the disk. */
export const TRAIN_COMMAND: Command = {
  name: 'train',
  positionals: ['FILE'],
  summary: 'Train on a file of rows: upload, report, question, job, download',
  options: {
    ...JOB_OPTIONS,
    out: { type: 'string', short: 'o', value: 'PATH', help: 'folder for the adapter [./ID of the adapter]' },
    merged: { type: 'boolean', help: 'download the complete model with the adapter merged in' },
    force: { type: 'boolean', help: 'replace an existing folder' },
    yes: { type: 'boolean', short: 'y', help: 'start the job without a question' },
    again: { type: 'boolean', help: 'start another job, although the same one exists' },
    ...COLUMNS_OPTION,
  },
  help: [...RECIPE_HELP],
  run: train,
};

async function train(context: CommandContext): Promise<number> {
  const { client, values, signal, output, json } = context;
  const say = (text: string) => void (json || output.write(`${text}\n`));
  const base = await readRequest(values);
  const model = (values.model as string | undefined) ?? base.base_model;
  if (model === undefined) {
    throw new ProductError('invalid_request', 'lora train needs --model NAME. lora models list shows them.', {
      param: 'base_model',
    });
  }
  const out = values.out as string | undefined;
  const file = context.positionals[0]!;
  const columns = values.columns as string | undefined;
  const sha256 = await digestOfRows(file);
  await client.model(model, { signal });
  await refuseBeforeTraining(context, out);

  const dataset = await storedDataset(context, { file, sha256, columns });
  const request = jobRequestOf({ ...values, dataset: dataset.id }, base);
  const report = await client.dryRun(request, { signal });
  for (const line of reportText(report)) say(line);
  if (values.yes !== true && !(await confirm(context, 'Train it? [Y/n] '))) {
    say('Nothing is started.');
    return 0;
  }

  const idempotencyKey = values.again === true ? undefined : repeatKeyOf('train', request);
  const job = await client.createJob(request, { idempotencyKey, signal });
  const ended = await advised(context, returnText(job.id), () => followed(context, job));
  const { adapter } = ended;
  if (adapter === null) {
    print(context, ended, endText(ended));
    return 1;
  }
  const folder = out ?? `${adapter}${values.merged ? '-merged' : ''}`;
  await advised(context, downloadText(adapter, folder, values.merged === true), () =>
    download(context, adapter, folder),
  );
  return print(context, { job: ended, path: folder }, `${adapter} is in ${folder}`);
}

/** Reports obstacles to the download at the end before anything is sent. @throws ProductError */
async function refuseBeforeTraining(context: CommandContext, out: string | undefined): Promise<void> {
  refuseWithoutTerminal(
    context,
    'There is no terminal to ask whether to start the job. With --yes it starts without a question.',
  );
  if (out === undefined || context.values.force === true || !(await stat(out).catch(() => null))) return;
  throw new ProductError('conflict', `${out} exists. Choose another --out, or replace it with --force.`);
}

/** The job once it has ended. One that an earlier call ended is not shown again. */
async function followed(context: CommandContext, { id }: Job): Promise<Job> {
  const { client, output, signal, json } = context;
  if (json) return await client.waitForJob(id, { signal });
  const job = await client.getJob(id, { signal });
  if (job.status === 'succeeded') {
    output.write(`${id} of an earlier call has succeeded\n`);
    return job;
  }
  // The dry run has shown the report.
  return await watchJob(context, id, ['report-ready']);
}

async function download({ client, values, output, signal, json }: CommandContext, adapter: string, folder: string) {
  const progress = createTransferProgress(output);
  await client
    .downloadAdapter(
      adapter,
      { folder },
      {
        weights: values.merged ? 'merged' : 'adapter',
        overwrite: values.force === true,
        signal,
        onProgress: json ? undefined : progress.handle,
      },
    )
    .finally(progress.end);
}

function endText({ id, status }: Job): string {
  return [
    `${id} has no adapter: it is ${status}.`,
    `lora jobs resume ${id} --watch   continues from its last checkpoint`,
    'the same command with --again     starts another job',
  ].join('\n');
}

function downloadText(adapter: string, folder: string, merged: boolean): string {
  return `${adapter} is published. To download it: lora adapters download ${adapter}${merged ? ' --merged' : ''} -o ${folder}`;
}

function returnText(id: string): string {
  return [
    `${id} does not depend on this command; it continues in the service.`,
    'the same command        follows it to the end, and downloads',
    `lora jobs watch ${id}   follows it`,
    `lora jobs cancel ${id}  stops it`,
  ].join('\n');
}
