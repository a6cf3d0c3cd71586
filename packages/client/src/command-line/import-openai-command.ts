import { type ImportedFile, type ImportedJob, MAX_RECORDED_ANSWERS, ProductError } from '@lorasmith/contracts';
import { faultLines } from '../api-error.js';
import { FolderSource } from '../openai-import/folder-source.js';
import { endOf, OpenaiImport, OpenaiWire, type PlannedImport } from '../openai-import/index.js';
import { bytesText, countText } from '../text-output.js';
import { type Command, type CommandContext, confirm, print, refuseWithoutTerminal } from './command.js';

/** The command that moves fine-tuning jobs in from OpenAI. */
export const IMPORT_OPENAI_COMMAND: Command = {
  name: 'import-openai',
  positionals: [],
  summary: 'Move fine-tuning jobs and their files in from OpenAI: plans, question, jobs',
  options: {
    'base-model': { type: 'string', value: 'NAME', help: 'the base model that the jobs are trained on here' },
    job: { type: 'string', multiple: true, value: 'ID', help: 'this job; may be repeated [all that have succeeded]' },
    folder: { type: 'string', value: 'PATH', help: 'files that were already downloaded, instead of a key' },
    'record-answers': {
      type: 'string',
      value: 'N',
      help: `ask the old model N prompts of the validation file, up to ${MAX_RECORDED_ANSWERS}, and store its answers`,
    },
    'dry-run': { type: 'boolean', help: 'only show the plans; nothing is fetched or stored' },
    yes: { type: 'boolean', short: 'y', help: 'post the jobs without a question' },
  },
  help: [
    'OPENAI_API_KEY is the key, OPENAI_BASE_URL the address of another service with the same API.',
    'It can be repeated: it continues, and posts nothing twice. docs/from-openai.md says what differs.',
  ],
  run: importOpenai,
};

async function importOpenai(context: CommandContext): Promise<number> {
  const { values, client, signal, output, json } = context;
  const baseModel = values['base-model'] as string | undefined;
  if (baseModel === undefined) {
    const message = 'lora import-openai needs --base-model NAME. lora models list shows them.';
    throw new ProductError('invalid_request', message, { param: 'base_model' });
  }
  const isDryRun = values['dry-run'] === true;
  if (!isDryRun) {
    refuseWithoutTerminal(
      context,
      'There is no terminal to ask whether to post the jobs. With --yes they are posted without a question, with --dry-run the plans are shown.',
    );
  }
  const recordAnswers = answersOf(values['record-answers'] as string | undefined);
  const jobs = values.job as string[] | undefined;
  const work = new OpenaiImport({ source: sourceOf(context), client, baseModel, jobs, recordAnswers, signal });
  const plans: PlannedImport[] = [];
  for await (const plan of work.plan()) {
    plans.push(plan);
    if (!json) output.write(`${planText(plan)}\n`);
  }
  const planned = plans.filter(({ job }) => job.outcome === 'planned').length;
  if (isDryRun || plans.length === 0) return ended(context, plans, isDryRun);
  const asks = planned > 0 || recordAnswers > 0;
  if (asks && values.yes !== true && !(await confirm(context, `Post ${jobsText(planned)}? [Y/n] `))) {
    return ended(context, plans, true);
  }
  for await (const event of work.post(plans)) {
    if (json) continue;
    if (event.type === 'file-stored') output.write(`${fileText(event.file)} is stored as ${event.file.dataset}\n`);
    if (event.type === 'job-ended') output.write(`${endedText(event.job)}\n`);
    if (event.type === 'answers-progressed' && event.answered === event.total) {
      output.write(`${event.job}: ${countText(event.total)} prompts were asked\n`);
    }
  }
  return ended(context, plans, false);
}

function sourceOf({ values, serverKey, openaiUrl }: CommandContext) {
  const folder = values.folder as string | undefined;
  if (folder !== undefined) return new FolderSource(folder);
  if (serverKey === undefined && openaiUrl === undefined) {
    const message =
      'lora import-openai needs a key of OpenAI in OPENAI_API_KEY, or --folder PATH with files that were downloaded.';
    throw new ProductError('invalid_request', message, { param: 'api_key' });
  }
  return new OpenaiWire({ baseUrl: openaiUrl, apiKey: serverKey });
}

function answersOf(text: string | undefined): number {
  if (text === undefined) return 0;
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= MAX_RECORDED_ANSWERS) return count;
  const message = `--record-answers must be a whole number from 1 to ${MAX_RECORDED_ANSWERS}, not "${text}".`;
  throw new ProductError('invalid_request', message, { param: 'record_answers' });
}

/** Prints the end of an import; 1 if a job failed. */
function ended(context: CommandContext, plans: readonly PlannedImport[], isDryRun: boolean): number {
  const jobs = plans.map(({ job }) => job);
  const end = endOf(jobs, isDryRun);
  const counts = [
    ...(isDryRun ? [`${jobsText(end.planned)} can be posted`] : [`${jobsText(end.posted)} posted`]),
    ...(end.imported > 0 ? [`${end.imported} imported before`] : []),
    ...(end.skipped > 0 ? [`${end.skipped} skipped, which have not succeeded there (--job ID imports one)`] : []),
    ...(end.failed > 0 ? [`${end.failed} cannot be posted`] : []),
  ];
  print(context, { ...end, jobs }, counts.join(', '));
  return end.failed > 0 ? 1 : 0;
}

const jobsText = (count: number) => (count === 1 ? '1 job' : `${count} jobs`);

function planText({ job }: PlannedImport): string {
  const { id, model, fine_tuned_model: made, outcome, status, settings } = job;
  const head = `${id}  ${made ?? model}`;
  if (outcome === 'skipped') return `${head}\n  skipped: its status is ${status}`;
  const files = [job.training_file, ...(job.validation_file === null ? [] : [job.validation_file])].map(fileText);
  const of =
    settings === null
      ? []
      : [
          `  ${Object.entries(settings)
            .map(([name, value]) => `${name} ${value ?? '-'}`)
            .join(', ')}`,
        ];
  const here = job.job === null ? [] : [`  imported before as ${job.job}`];
  return [head, `  ${files.join(', validated on ')}`, ...of, ...here, ...differences(job), ...errorLines(job)].join(
    '\n',
  );
}

const differences = ({ differs }: ImportedJob) => differs.map((sentence) => `  differs: ${sentence}`);

function fileText({ id, name, bytes }: ImportedFile): string {
  const details = [...(name === null ? [] : [name]), ...(bytes === null ? [] : [bytesText(bytes)])];
  return details.length === 0 ? id : `${id} (${details.join(', ')})`;
}

function endedText(job: ImportedJob): string {
  const { answers, no_answers: without } = job;
  const recorded = answers !== null ? `, the answers of its model are ${answers}` : '';
  const missing = without === null ? [] : [`  no answers are recorded: ${without}`];
  const outcomes: Record<ImportedJob['outcome'], string> = {
    planned: 'not posted',
    posted: `posted as ${job.job}`,
    imported: `imported before as ${job.job}`,
    skipped: 'skipped',
    failed: 'cannot be posted',
  };
  return [`${job.id}: ${outcomes[job.outcome]}${recorded}`, ...missing, ...errorLines(job)].join('\n');
}

function errorLines({ error }: ImportedJob): string[] {
  if (error === null) return [];
  return [`  ${error.code}: ${error.message}`, ...faultLines(error.details).map((line) => `  ${line}`)];
}
