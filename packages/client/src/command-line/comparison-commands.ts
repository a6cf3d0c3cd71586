import {
  type Comparison,
  type ComparisonRequest,
  type ComparisonResult,
  type ComparisonRow,
  ProductError,
} from '@lorasmith/contracts';
import { shareText, verdictText } from '../comparison-text.js';
import { countText, printable, redraw } from '../text-output.js';
import {
  advised,
  type Command,
  type CommandContext,
  moreText,
  PAGE_OPTIONS,
  pageQueryOf,
  print,
  textTable,
} from './command.js';

export const COMPARE_COMMAND: Command = {
  name: 'compare',
  positionals: ['A', 'B'],
  summary: 'Have two models answer the prompts of a dataset, and a third say which answers are better',
  options: {
    dataset: { type: 'string', value: 'ID', help: 'its prompts are answered' },
    judge: { type: 'string', value: 'MODEL', help: 'the model that judges' },
    'judge-url': {
      type: 'string',
      value: 'URL',
      help: 'its server, one of JUDGE_SERVERS of the service [the models of the service]',
    },
    rubric: { type: 'string', value: 'TEXT', help: 'what makes an answer the better one' },
    pattern: { type: 'string', help: 'where the verdict is in what the judge says [after the word Verdict]' },
    rows: { type: 'string', value: 'N', help: 'so many rows are drawn [100]' },
    'max-tokens': { type: 'string', value: 'N', help: 'of an answer [256]' },
    temperature: { type: 'string', value: 'T', help: 'of the answers [0]' },
    seed: { type: 'string', value: 'N', help: 'of the rows and the answers [0]' },
    name: { type: 'string', help: 'of the comparison' },
  },
  help: [
    'A and B are adapters, names that point to them, base models, or datasets with stored answers (ds_…).',
    '{{item.reference}} in the rubric stands for the own answer of the row.',
    'Exits with 0 if the comparison succeeded, whichever is better; with 1 otherwise.',
  ],
  run: compare,
};

export const COMPARISON_COMMANDS: Command[] = [
  {
    name: 'comparisons list',
    positionals: [],
    summary: 'Comparisons, newest first',
    options: PAGE_OPTIONS,
    async run(context) {
      const page = await context.client.listComparisons(pageQueryOf(context.values), context);
      const rows = page.data.map((one) => [
        one.id,
        one.name ?? '-',
        ...one.models.map(({ name }) => name),
        one.status,
        one.result === null ? '-' : shareOrNone(one.result.win_rate),
      ]);
      return print(context, page, textTable(['ID', 'NAME', 'A', 'B', 'STATUS', 'A WINS'], rows) + moreText(page));
    },
  },
  {
    name: 'comparisons show',
    positionals: ['ID'],
    summary: 'One comparison with its result',
    async run(context) {
      const found = await context.client.getComparison(context.positionals[0]!, context);
      return print(context, found, comparisonText(found));
    },
  },
  {
    name: 'comparisons rows',
    positionals: ['ID'],
    summary: 'Rows of a comparison: prompt, both answers, and what the judge said of them',
    options: PAGE_OPTIONS,
    async run(context) {
      const { limit, after } = pageQueryOf(context.values);
      const query = {
        ...(limit === undefined ? {} : { limit }),
        ...(after === undefined ? {} : { after: Number(after) }),
      };
      const page = await context.client.comparisonRows(context.positionals[0]!, query, context);
      return print(context, page, page.data.map(rowText).join('\n\n') + moreText(page));
    },
  },
  {
    name: 'comparisons cancel',
    positionals: ['ID'],
    summary: 'Cancel a comparison; what was judged stays',
    async run(context) {
      const one = await context.client.cancelComparison(context.positionals[0]!, context);
      return print(context, one, one.ended_at === null ? `${one.id} is being cancelled` : `${one.id}  ${one.status}`);
    },
  },
  {
    name: 'comparisons delete',
    positionals: ['ID'],
    summary: 'Delete a comparison that has ended, with its rows',
    async run(context) {
      const id = context.positionals[0]!;
      await context.client.deleteComparison(id, context);
      return print(context, { id, deleted: true }, `${id} is deleted`);
    },
  },
];

async function compare(context: CommandContext): Promise<number> {
  const { client, signal, output, json } = context;
  const { id } = await client.createComparison(requestOf(context), { signal });
  const isShown = output.isTTY === true && !json;
  const advice = `The comparison goes on: lora comparisons show ${id}, or cancel it: lora comparisons cancel ${id}`;
  const ended = await advised(context, advice, () =>
    client.waitForComparison(id, {
      signal,
      onProgress({ progress, status }) {
        if (isShown) redraw(output, progress === null ? status : `${progress.rows} of ${progress.total} rows`);
      },
    }),
  );
  if (isShown) output.write('\n');
  print(context, ended, comparisonText(ended));
  return ended.status === 'succeeded' ? 0 : 1;
}

/** @throws ProductError `invalid_request` for an option that is missing */
function requestOf({ values, positionals }: CommandContext): ComparisonRequest {
  const given = values as Record<string, string | undefined>;
  const needed = (name: string): string => {
    const value = given[name];
    if (value !== undefined) return value;
    const message = 'A comparison needs --dataset ID, --judge MODEL and --rubric TEXT.';
    throw new ProductError('invalid_request', message, { param: name });
  };
  const number = (name: string, field: string) => (given[name] === undefined ? {} : { [field]: Number(given[name]) });
  return {
    models: [...positionals],
    dataset: needed('dataset'),
    judge: {
      model: needed('judge'),
      rubric: needed('rubric'),
      ...(given['judge-url'] === undefined ? {} : { url: given['judge-url'] }),
      ...(given.pattern === undefined ? {} : { pattern: given.pattern }),
    },
    ...(given.name === undefined ? {} : { name: given.name }),
    ...number('rows', 'rows'),
    ...number('max-tokens', 'max_tokens'),
    ...number('temperature', 'temperature'),
    ...number('seed', 'seed'),
  };
}

/** A comparison with its result, in lines. */
function comparisonText({ id, status, models, error, result, progress }: Comparison): string {
  const names = models.map(({ name }) => printable(name)) as [string, string];
  const state = progress === null ? status : `${status}, ${progress.rows} of ${progress.total} rows`;
  return [
    `${id}: ${names[0]} (a) and ${names[1]} (b), ${state}`,
    ...(error === null ? [] : [`${error.code}: ${printable(error.message)}`]),
    ...(result === null ? [] : resultLines(result, names)),
  ].join('\n');
}

function resultLines(result: ComparisonResult, names: readonly [string, string]): string[] {
  const { rows, wins, losses, ties, identical, failed, win_rate: rate, interval, tokens, failures } = result;
  const bounds = interval === null ? '' : ` (95 %: ${interval.map(shareText).join(' to ')})`;
  const table = textTable(
    ['ROWS', 'A WINS', 'B WINS', 'TIES', 'IDENTICAL', 'FAILED'],
    [[rows, wins, losses, ties, identical, failed]],
  );
  return [
    table,
    `a wins ${shareOrNone(rate)}${bounds}: ${verdictText(result, names)}`,
    `Decided by the order alone: ${shareOrNone(result.position_bias)} of the judged rows`,
    `Tokens: ${tokens.answers.map(countText).join(' and ')} written by a and b, ${countText(tokens.judge)} of the judge`,
    ...failures.map(({ reason, rows: count }) => `Failed (${count}): ${printable(reason)}`),
  ];
}

function shareOrNone(share: number | null): string {
  return share === null ? '-' : shareText(share);
}

function rowText({ number, line, prompt, answers, verdicts, outcome, error }: ComparisonRow): string {
  const said = verdicts.map((verdict, order) =>
    verdict === null ? [] : [`${order === 0 ? 'a first' : 'b first'}: ${verdict.prefers}. ${verdict.text}`],
  );
  return [
    `${number}. line ${line}: ${outcome ?? 'not finished'}${error === null ? '' : ` (${error})`}`,
    prompt,
    ...answers.map((answer, side) => `${side === 0 ? 'a' : 'b'}: ${answer?.text ?? '-'}`),
    ...said.flat(),
  ].join('\n');
}
