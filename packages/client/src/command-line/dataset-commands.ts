import type { Dataset } from '@lorasmith/contracts';
import { bytesText, countText } from '../human-units.js';
import { type Command, moreText, PAGE_OPTIONS, pageQueryOf, print } from './command.js';
import { textTable } from './text-table.js';

export const DATASET_COMMANDS: Command[] = [
  {
    name: 'datasets upload',
    positionals: ['FILE'],
    summary: 'Upload a JSONL file; prints the id for jobs',
    options: { name: { type: 'string' } },
    async run(context) {
      const file = context.positionals[0]!;
      const name = context.values.name as string | undefined;
      const dataset = await context.client.uploadDataset({ file }, { name, signal: context.signal });
      const warnings = dataset.warnings.map(
        ({ line, message }) => `\nwarning: ${line ? `line ${line}: ` : ''}${message}`,
      );
      return print(context, dataset, `${lineOf(dataset)}${warnings.join('')}`);
    },
  },
  {
    name: 'datasets list',
    positionals: [],
    summary: 'Datasets, newest first',
    options: PAGE_OPTIONS,
    async run(context) {
      const page = await context.client.listDatasets(pageQueryOf(context.values), context);
      const rows = page.data.map(({ id, name, format, rows, bytes }) => [
        id,
        name ?? '-',
        format,
        rows,
        bytesText(bytes),
      ]);
      return print(context, page, textTable(['ID', 'NAME', 'FORMAT', 'ROWS', 'SIZE'], rows) + moreText(page));
    },
  },
  {
    name: 'datasets show',
    positionals: ['ID'],
    summary: 'One dataset',
    async run(context) {
      const dataset = await context.client.getDataset(context.positionals[0]!, context);
      return print(context, dataset, lineOf(dataset));
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

function lineOf({ id, rows, format, bytes }: Dataset): string {
  return `${id}  ${countText(rows)} rows, ${format}, ${bytesText(bytes)}`;
}
