import {
  type JobRequest,
  ProductError,
  type Sweep,
  type SweepField,
  type SweepPlan,
  type SweepRequest,
} from '@lorasmith/contracts';
import { settingOf } from '../report-text.js';
import {
  stateText,
  sweepExclusionOf,
  sweepFieldOf,
  sweepProgressText,
  sweepValueText,
  USUAL_SPLIT,
} from '../sweep-text.js';
import { bytesText, countText, durationText } from '../text-output.js';
import {
  advised,
  type Command,
  type CommandContext,
  type CommandOptions,
  confirm,
  moreText,
  PAGE_OPTIONS,
  pageQueryOf,
  print,
  refuseWithoutTerminal,
  repeatKeyOf,
  textTable,
} from './command.js';
import { COLUMNS_OPTION, digestOfRows, storedDataset } from './dataset-commands.js';
import { JOB_OPTIONS, jobRequestOf, RECIPE_HELP, readRequest } from './job-flags.js';

/** The option for the fields that a sweep varies. */
export const OVER_OPTION = {
  over: {
    type: 'string',
    multiple: true,
    value: 'FIELD=VALUES',
    help: 'varies a field of the job; may be repeated. See below',
  },
} as const satisfies CommandOptions;

export const OVER_HELP: readonly string[] = [
  'What --over varies:',
  '    --over lora.r=4,8,16                           these values',
  `    --over 'lora.target_modules="all-linear",["q_proj"]'  lists among them: then all are JSON`,
  '    --over training.learning_rate=1e-4..3e-3:log   four of a range, by equal factors',
  '    --over training.learning_rate=1e-4..3e-3:log:6, or :linear:6   six of it',
];

/** The space of `--over FIELD=VALUES`, which may be repeated. @throws ProductError `invalid_request` */
export function spaceOf(texts: readonly string[]): SweepRequest['space'] {
  const space = new Map<string, SweepField>();
  for (const text of texts) {
    const [field = '', ...rest] = text.split('=');
    const values = rest.join('=');
    const refused = (why: string) =>
      new ProductError('invalid_request', `--over ${text}: ${why} For example --over lora.r=4,8,16`, { param: 'over' });
    if (field.trim() === '' || values === '') throw refused('it needs a field and its values.');
    if (space.has(field)) throw refused('the field is there twice.');
    space.set(field, sweepFieldOf(values));
  }
  return Object.fromEntries(space);
}

const change = (name: 'cancel' | 'pause' | 'resume', summary: string): Command => ({
  name: `sweeps ${name}`,
  positionals: ['ID'],
  summary,
  async run(context) {
    const { client, positionals } = context;
    const calls = { cancel: client.cancelSweep, pause: client.pauseSweep, resume: client.resumeSweep };
    const sweep = await calls[name](positionals[0]!, context);
    return print(context, sweep, `${sweep.id}  ${sweep.status}`);
  },
});

/** The options of a job that a sweep has too, which come after its own. */
const { model: MODEL_OPTION, name: _, ...OTHER_JOB_OPTIONS } = JOB_OPTIONS;
/** The heading of the options that say which variants there are. */
const VARIANTS = 'Variants';

/** The command from rows in a file to the best of several variants. */
export const SWEEP_COMMAND: Command = {
  name: 'sweep',
  positionals: ['FILE'],
  summary: 'Train variants of a job on a file of rows, and compare them on held-out rows',
  options: {
    model: MODEL_OPTION!,
    name: { type: 'string', help: 'of the sweep, its jobs and their adapters' },
    yes: { type: 'boolean', short: 'y', help: 'start the jobs without a question' },
    again: { type: 'boolean', help: 'start another sweep, although the same one exists' },
    ...COLUMNS_OPTION,
    over: { ...OVER_OPTION.over, group: VARIANTS },
    exclude: {
      type: 'string',
      multiple: true,
      value: 'CONDITIONS',
      help: "leaves out what meets all of them, as 'lora.r=16 & training.learning_rate=1e-3..'; may be repeated",
      group: VARIANTS,
    },
    random: {
      type: 'string',
      value: 'N',
      help: 'draws N variants instead of trying all combinations',
      group: VARIANTS,
    },
    'random-seed': { type: 'string', value: 'SEED', help: 'of the draw', group: VARIANTS },
    halving: {
      type: 'string',
      value: 'STEPS',
      help: 'lets the better half continue after so many steps, twice as many, and so on',
      group: VARIANTS,
    },
    metric: {
      type: 'string',
      value: 'loss|accuracy|reward',
      help: 'on the held-out rows [loss]',
      group: VARIANTS,
    },
    'publish-best': {
      type: 'string',
      value: 'K',
      help: 'the adapters of so many variants stay [1]',
      group: VARIANTS,
    },
    ...OTHER_JOB_OPTIONS,
    'validation-split': {
      ...JOB_OPTIONS['validation-split']!,
      help: `the share of the rows that is held out [${USUAL_SPLIT}]`,
    },
  },
  help: [...OVER_HELP, '', ...RECIPE_HELP],
  run: sweep,
};

export const SWEEP_COMMANDS: Command[] = [
  {
    name: 'sweeps list',
    positionals: [],
    summary: 'Sweeps, newest first',
    options: PAGE_OPTIONS,
    async run(context) {
      const page = await context.client.listSweeps(pageQueryOf(context.values), context);
      const rows = page.data.map((one) => [
        one.id,
        one.name ?? '-',
        one.base_model,
        one.status,
        one.variants.length,
        one.best ?? '-',
      ]);
      return print(context, page, textTable(['ID', 'NAME', 'MODEL', 'STATUS', 'JOBS', 'BEST'], rows) + moreText(page));
    },
  },
  {
    name: 'sweeps show',
    positionals: ['ID'],
    summary: 'One sweep: its variants, the best first',
    async run(context) {
      const found = await context.client.getSweep(context.positionals[0]!, context);
      return print(context, found, sweepText(found));
    },
  },
  {
    name: 'sweeps watch',
    positionals: ['ID'],
    summary: 'Follow a sweep until it ends; Ctrl-C stops watching, not the sweep',
    run: (context) => watch(context, context.positionals[0]!),
  },
  change('cancel', 'Cancel all unfinished jobs of a sweep'),
  change('pause', 'Pause all unfinished jobs of a sweep'),
  change('resume', 'Resume the paused jobs of a sweep'),
  {
    name: 'sweeps delete',
    positionals: ['ID'],
    summary: 'Delete the record of a sweep that has ended',
    async run(context) {
      const id = context.positionals[0]!;
      await context.client.deleteSweep(id, context);
      return print(context, { id, deleted: true }, `${id} is deleted`);
    },
  },
];

async function sweep(context: CommandContext): Promise<number> {
  const { client, values, signal, output, json } = context;
  const space = spaceOf((values.over as string[] | undefined) ?? []);
  const base = await readRequest(values);
  const model = (values.model as string | undefined) ?? base.base_model;
  if (model === undefined || Object.keys(space).length === 0) {
    const message = `lora sweep needs ${model === undefined ? '--model NAME' : 'a field to vary, such as --over lora.r=4,8,16'}.`;
    throw new ProductError('invalid_request', message, { param: model === undefined ? 'base_model' : 'over' });
  }
  refuseWithoutTerminal(
    context,
    'There is no terminal to ask whether to start the jobs. With --yes they start without a question.',
  );
  const file = context.positionals[0]!;
  const sha256 = await digestOfRows(file);
  await client.model(model, { signal });
  const dataset = await storedDataset(context, { file, sha256, columns: values.columns as string | undefined });
  const request = sweepRequestOf(values, space, jobRequestOf({ ...values, dataset: dataset.id }, base));
  const plan = await client.dryRunSweep(request, { signal });
  if (!json) output.write(`${planText(plan)}\n`);
  if (values.yes !== true && !(await confirm(context, `Train these ${plan.variants.length} variants? [Y/n] `))) {
    if (!json) output.write('Nothing is started.\n');
    return 0;
  }
  const idempotencyKey = values.again === true ? undefined : repeatKeyOf('sweep', request);
  const { id } = await client.createSweep(request, { idempotencyKey, signal });
  if (!json) output.write(`${id}\n`);
  const advice = `${id} does not depend on this command; the same command, or lora sweeps watch ${id}, follows it.`;
  return await advised(context, advice, () => watch(context, id));
}

function sweepRequestOf(values: Record<string, unknown>, space: SweepRequest['space'], job: JobRequest): SweepRequest {
  const given = (flag: string) => (values[flag] === undefined ? undefined : settingOf(values[flag] as string));
  const isHeldOut = job.validation !== undefined;
  const [drawn, firstSteps] = [given('random'), given('halving')];
  const excluded = values.exclude as string[] | undefined;
  const optional = {
    search: drawn === undefined ? undefined : 'random',
    variants: drawn,
    halving: firstSteps === undefined ? undefined : { first_steps: firstSteps },
    exclude: excluded?.map(sweepExclusionOf),
    seed: given('random-seed'),
    metric: given('metric'),
    publish_best: given('publish-best'),
    name: job.name ?? undefined,
  };
  return {
    job: isHeldOut ? job : { ...job, validation: { split: USUAL_SPLIT } },
    space,
    // The server validates the values. What is undefined is not in the JSON of the request.
    ...(optional as Partial<SweepRequest>),
  };
}

/** Time between lines in which only steps differ. */
const STEPS_INTERVAL_MS = 10_000;

async function watch(context: CommandContext, id: string): Promise<number> {
  const { client, output, signal, json } = context;
  let shown = { line: '', states: '', atMs: Number.NEGATIVE_INFINITY };
  const ended = await client.waitForSweep(id, {
    signal,
    onProgress: (sweep) => {
      const next = {
        line: `${sweep.status}: ${sweepProgressText(sweep)}`,
        states: [sweep.status, ...sweep.variants.map(({ status }) => status)].join(' '),
        atMs: Date.now(),
      };
      const isDue = next.states !== shown.states || next.atMs - shown.atMs >= STEPS_INTERVAL_MS;
      if (json || next.line === shown.line || !isDue) return;
      output.write(`${next.line}\n`);
      shown = next;
    },
  });
  print(context, ended, sweepText(ended));
  return ended.status === 'succeeded' ? 0 : 1;
}

function planText({ variants, tokens, seconds, at_once, peak_memory_bytes }: SweepPlan): string {
  const fields = Object.keys(variants[0]?.values ?? {});
  const rows = variants.map(({ variant, values, steps, error }) => [
    variant,
    ...fields.map((field) => sweepValueText(values[field])),
    steps ?? '-',
    error === null ? '' : `cannot run: ${error.message}`,
  ]);
  const together =
    at_once === null || peak_memory_bytes === null
      ? ''
      : `; ${at_once} at once fit into the memory, with ${bytesText(peak_memory_bytes)}`;
  return [
    textTable(['VARIANT', ...fields, 'STEPS', ''], rows),
    `${countText(tokens)} tokens in all${seconds === null ? '' : `, about ${durationText(seconds)} one after the other`}${together}`,
  ].join('\n');
}

/** The best first; before the sweep has ended in the order of the variants. */
function sweepText({ id, status, metric, best, variants }: Sweep): string {
  const fields = Object.keys(variants[0]?.values ?? {});
  const last = Number.POSITIVE_INFINITY;
  const rows = variants
    .toSorted((one, other) => (one.rank ?? last) - (other.rank ?? last) || one.variant - other.variant)
    .map((one) => [
      one.rank ?? '-',
      one.variant,
      ...fields.map((field) => sweepValueText(one.values[field])),
      one.metric === null ? '-' : one.metric.toPrecision(5),
      one.error === null ? stateText(one) : `${one.status}: ${one.error.code}`,
      one.job,
      one.adapter ?? '-',
    ]);
  return [
    textTable(['RANK', 'VARIANT', ...fields, metric.toUpperCase(), 'STATUS', 'JOB', 'ADAPTER'], rows),
    `${id} ${status}${best === null ? '' : `; the best is ${best}`}`,
  ].join('\n');
}
