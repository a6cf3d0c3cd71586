import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import {
  DATASET_SORTS,
  type Dataset,
  type DatasetQuery,
  type DatasetRowsQuery,
  type DatasetRowView,
  type DatasetTokens,
  ProductError,
} from '@lorasmith/contracts';
import { parseColumnMapping } from '@lorasmith/row-files';
import { faultLines } from '../api-error.js';
import { convertDataset } from '../convert-dataset.js';
import { digestOf } from '../resumable-download.js';
import { bytesText, countText } from '../text-output.js';
import {
  type Command,
  type CommandContext,
  type CommandOptions,
  createTransferProgress,
  moreText,
  PAGE_OPTIONS,
  print,
  textTable,
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

/** The option for a file whose columns have other names than those of a row. */
export const COLUMNS_OPTION = {
  columns: {
    type: 'string',
    value: 'prompt:NAME,completion:NAME',
    help: 'the columns of FILE that rows have; all others are left out. For JSONL as for CSV and Parquet',
  },
} as const satisfies CommandOptions;
const BASE_MODEL = { type: 'string', value: 'NAME' } as const;
const FILE_ENDINGS = /(?:\.(?:jsonl?|ndjson|csv|tsv|txt|parquet))?(?:\.(?:gz|zst))?$/i;

export const DATASET_COMMANDS: Command[] = [
  {
    name: 'datasets upload',
    positionals: ['FILE'],
    summary: 'Upload JSONL, a JSON array, CSV or Parquet, also as .gz and .zst; prints the id for jobs',
    options: {
      name: { type: 'string', help: 'a name for the dataset [that of the file]' },
      ...COLUMNS_OPTION,
      'base-model': { ...BASE_MODEL, help: 'tokenizes the rows for this base model in the background' },
    },
    async run(context) {
      const file = context.positionals[0]!;
      const name = context.values.name as string | undefined;
      const columns = context.values.columns as string | undefined;
      const baseModel = context.values['base-model'] as string | undefined;
      const options = { name, columns, baseModel, signal: context.signal };
      const dataset = await context.client.uploadDataset({ file }, options);
      return print(context, dataset, uploadText(dataset));
    },
  },
  {
    name: 'datasets pull',
    positionals: ['OWNER/NAME'],
    summary: 'Fetch a dataset of the Hugging Face hub to this machine, and upload it',
    options: {
      split: { type: 'string', value: 'SPLIT', help: 'the rows of this split [train]' },
      file: {
        type: 'string',
        value: 'PATH',
        help: 'this file of the repository, or the files of the split in this folder',
      },
      revision: { type: 'string', help: 'a branch, a tag or a commit [main]' },
      name: { type: 'string', help: 'a name for the dataset [that of the repository]' },
      ...COLUMNS_OPTION,
      'base-model': { ...BASE_MODEL, help: 'tokenizes the rows for this base model in the background' },
    },
    help: ['HF_TOKEN is a token for gated and private datasets, HF_ENDPOINT the address of another hub.'],
    run: pullDataset,
  },
  {
    name: 'datasets convert',
    positionals: ['FILE'],
    summary: 'Write the rows of such a file as JSONL, without the service',
    options: {
      ...COLUMNS_OPTION,
      out: {
        type: 'string',
        short: 'o',
        value: 'PATH',
        help: 'the JSONL file [the name of FILE with .jsonl, in this folder]',
      },
      force: { type: 'boolean', help: 'replace an existing file' },
    },
    async run(context) {
      const { columns, out, force: overwrite } = context.values as { columns?: string; out?: string; force?: boolean };
      const file = context.positionals[0]!;
      const destination = out ?? `${basename(file).replace(FILE_ENDINGS, '')}.jsonl`;
      const mapping = columns === undefined ? undefined : parseColumnMapping(columns);
      const converted = await convertDataset(file, destination, { mapping, overwrite, signal: context.signal });
      const changed = converted.mapping === null ? '' : `\n${converted.mapping}`;
      const leftOut = converted.leftOut.length === 0 ? '' : `\nleft out: ${converted.leftOut.join(', ')}`;
      const text = `${countText(converted.rows)} rows are in ${destination}${changed}${leftOut}`;
      return print(context, { ...converted, path: destination }, text);
    },
  },
  {
    name: 'datasets list',
    positionals: [],
    summary: 'Datasets, newest first unless sorted',
    options: {
      find: { type: 'string', value: 'TEXT', help: 'only those with this text in name, id or tags' },
      ...FILTER_OPTIONS,
      ...orderOptions(DATASET_SORTS.join(', ')),
    },
    async run(context) {
      const { find, sort, order } = context.values as Record<string, string | undefined>;
      const query = { ...filterQueryOf(context.values), ...given({ q: find, sort, order }) } as DatasetQuery;
      const page = await context.client.listDatasets(query, context);
      const rows = page.data.map(({ id, name, format, rows, bytes }) => [
        id,
        name ?? '-',
        format,
        rows,
        bytesText(bytes),
      ]);
      const table = textTable(['ID', 'NAME', 'FORMAT', 'ROWS', 'SIZE'], rows);
      return print(context, page, table + totalText(page) + moreText(page));
    },
  },
  {
    name: 'datasets show',
    positionals: ['ID'],
    summary: 'One dataset; --base-model NAME shows whether its tokens for that model are ready',
    options: { 'base-model': { ...BASE_MODEL, help: 'whether its tokens for this base model are ready' } },
    async run(context) {
      const id = context.positionals[0]!;
      const baseModel = context.values['base-model'] as string | undefined;
      if (baseModel !== undefined) {
        const tokens = await context.client.datasetTokens(id, baseModel, context);
        return print(context, tokens, tokensText(tokens));
      }
      const dataset = await context.client.getDataset(id, context);
      return print(context, dataset, [lineOf(dataset), ...detailsText(dataset)].join('\n'));
    },
  },
  editCommand('datasets', (client, id, details, call) => client.changeDataset(id, details, call)),
  {
    name: 'datasets rows',
    positionals: ['ID'],
    summary: 'Rows of a dataset; --base-model NAME shows them as that model sees them',
    options: {
      ...PAGE_OPTIONS,
      after: { type: 'string', value: 'LINE', help: 'only rows after this line' },
      'base-model': {
        ...BASE_MODEL,
        help: 'their text in the chat template of this base model; [what is trained] is in brackets',
      },
      'max-seq-length': { type: 'string', value: 'N', help: 'as in a job' },
      'on-overflow': { type: 'string', value: 'VALUE', help: 'as in a job' },
      'completion-format': { type: 'string', value: 'VALUE', help: 'as in a job' },
    },
    async run(context) {
      const { limit, after, ...values } = context.values as Record<string, string | undefined>;
      const numbers = { limit, after, max_seq_length: values['max-seq-length'] };
      const given = Object.entries(numbers).flatMap(([name, text]) =>
        text === undefined ? [] : [[name, Number(text)]],
      );
      const query = {
        ...Object.fromEntries(given),
        base_model: values['base-model'],
        on_overflow: values['on-overflow'],
        completion_format: values['completion-format'],
      };
      const page = await context.client.datasetRows(context.positionals[0]!, query as DatasetRowsQuery, context);
      return print(context, page, page.data.map(rowText).join('\n') + moreText(page));
    },
  },
  {
    name: 'datasets delete',
    positionals: ['ID'],
    summary: 'Delete a dataset that no unfinished job uses',
    async run(context) {
      const id = context.positionals[0]!;
      await context.client.deleteDataset(id, context);
      return print(context, { id, deleted: true }, `${id} is deleted`);
    },
  },
];

async function pullDataset(context: CommandContext): Promise<number> {
  const { client, output, signal, json, values, positionals, hubEnvironment } = context;
  const {
    split,
    file,
    revision,
    name,
    columns,
    'base-model': baseModel,
  } = values as Record<string, string | undefined>;
  const progress = createTransferProgress(output);
  const pulled = await client
    .pullDataset(
      { repo: positionals[0]!, split, file, revision },
      {
        environment: hubEnvironment,
        ...{ name, columns, baseModel, signal },
        onProgress: json ? undefined : progress.handle,
      },
    )
    .finally(progress.end);
  const { dataset, commit, files } = pulled;
  const from = `from ${files.join(', ')}, commit ${commit.slice(0, 12)}`;
  return print(context, dataset, `${uploadText(dataset)}\n${from}`);
}

function uploadText(dataset: Dataset): string {
  const warnings = dataset.warnings.map(({ line, message }) => `\nwarning: ${line ? `line ${line}: ` : ''}${message}`);
  return `${lineOf(dataset)}${warnings.join('')}`;
}

function rowText({ line, text, faults, tokens }: DatasetRowView): string {
  if (tokens === null) return [`${line}: ${text}`, ...faultLines(faults)].join('\n');
  const isTrained = (index: number) => tokens.data[index]?.trained === true;
  const parts = tokens.data.map((token, index) => {
    const opening = isTrained(index) && !isTrained(index - 1) ? '[' : '';
    const closing = isTrained(index) && !isTrained(index + 1) ? ']' : '';
    return `${opening}${token.text}${closing}`;
  });
  const head = `${line}: ${countText(tokens.total)} tokens, ${countText(tokens.trained)} trained, ${tokens.outcome}`;
  const cut = tokens.data.length < tokens.total ? ' …' : '';
  return [head, `${parts.join('')}${cut}`, ...faultLines(faults)].join('\n');
}

function tokensText({ dataset, base_model, status, rows, total_rows, error }: DatasetTokens): string {
  const progress = status === 'preparing' ? `, ${countText(rows)} of ${countText(total_rows)} rows` : '';
  const line = `${dataset}  tokens for ${base_model}: ${status}${progress}`;
  return error === null ? line : [line, `${error.code}: ${error.message}`, ...faultLines(error.details)].join('\n');
}

function lineOf({ id, rows, format, bytes }: Dataset): string {
  return `${id}  ${countText(rows)} rows, ${format}, ${bytesText(bytes)}`;
}

export interface RowsFile {
  file: string;
  sha256: string;
  /** The columns of the file that rows have. */
  columns: string | undefined;
}

/** The dataset with the bytes of the file, which are sent only if the service does not have them. */
export async function storedDataset(context: CommandContext, { file, sha256, columns }: RowsFile): Promise<Dataset> {
  const { client, output, signal, json } = context;
  const [stored] = columns === undefined ? (await client.listDatasets({ sha256, limit: 1 }, { signal })).data : [];
  const { size } = await stat(file);
  const progress = createTransferProgress(output);
  const dataset =
    stored ??
    (await client
      .uploadDataset(
        { file },
        {
          columns,
          signal,
          onProgress: json ? undefined : (sent) => progress.handle({ receivedBytes: sent, totalBytes: size }),
        },
      )
      .finally(progress.end));
  if (json) return dataset;
  const { id, rows, format, bytes, warnings } = dataset;
  const origin = stored === undefined ? 'uploaded' : 'stored since an earlier upload';
  output.write(`${id}  ${countText(rows)} rows, ${format}, ${bytesText(bytes)}, ${origin}\n`);
  for (const { line, message } of warnings) {
    output.write(`warning       ${line === undefined ? '' : `line ${line}: `}${message}\n`);
  }
  return dataset;
}

/** The sha256 of a file of rows. @throws ProductError `invalid_request` if it cannot be read */
export async function digestOfRows(file: string): Promise<string> {
  return await digestOf(file).catch((cause: Error) => {
    throw new ProductError('invalid_request', `Cannot read ${file}: ${cause.message}`, { param: 'file', cause });
  });
}
