import { type DetailsChange, ProductError } from '@lorasmith/contracts';
import type { CallOptions } from '../http-transport.js';
import type { Client } from '../node-client.js';
import { type Command, type CommandOptions, PAGE_OPTIONS, pageQueryOf, print } from './command.js';

/** The options of a list that is filtered by name, tags and time. */
export const FILTER_OPTIONS = {
  name: { type: 'string', value: 'TEXT', help: 'only those with this text in their name' },
  tag: { type: 'string', value: 'TAG[,TAG]', help: 'only those with all of these tags' },
  since: { type: 'string', value: 'TIME', help: 'only those created since: 2026-03-01, or 2026-03-01T12:00:00Z' },
  until: { type: 'string', value: 'TIME', help: 'only those created until then' },
  ...PAGE_OPTIONS,
} as const satisfies CommandOptions;

/** The options of a list that is sorted by these fields. */
export const orderOptions = (fields: string, descending = 'created_at') =>
  ({
    sort: { type: 'string', value: 'FIELD', help: `by ${fields} [created_at]` },
    order: { type: 'string', value: 'asc|desc', help: `[desc for ${descending}, otherwise asc]` },
  }) as const satisfies CommandOptions;

interface FilterQuery {
  limit?: number;
  after?: string;
  name?: string;
  tag?: string;
  created_after?: string;
  created_before?: string;
}

/** The page and the filters that these options select. */
export function filterQueryOf(values: Record<string, unknown>): FilterQuery {
  const { name, tag, since, until } = values as Record<string, string | undefined>;
  return {
    ...pageQueryOf(values),
    ...given({ name, tag, created_after: since, created_before: until }),
  };
}

/** The entries that have a value. */
export function given<Value extends Record<string, string | undefined>>(
  values: Value,
): { [Key in keyof Value]?: string } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [Key in keyof Value]?: string;
  };
}

type Changed = { id: string; name: string | null; tags: string[]; note: string | null };

/** The command that names, tags and annotates things of a kind. */
export function editCommand(
  kind: string,
  change: (client: Client, id: string, details: DetailsChange, call: CallOptions) => Promise<Changed>,
): Command {
  return {
    name: `${kind} edit`,
    positionals: ['ID'],
    summary: 'Change its name, tags or note',
    options: {
      name: { type: 'string', value: 'NAME', help: "its name; '' removes it" },
      tags: { type: 'string', value: 'TAG[,TAG]', help: "its tags, instead of those that it has; '' removes them" },
      note: { type: 'string', value: 'TEXT', help: "its note; '' removes it" },
    },
    async run(context) {
      const { name, tags, note } = context.values as Record<string, string | undefined>;
      const changed = await change(
        context.client,
        context.positionals[0]!,
        {
          ...(name === undefined ? {} : { name: name || null }),
          ...(tags === undefined ? {} : { tags: tagsOf(tags) }),
          ...(note === undefined ? {} : { note: note || null }),
        },
        context,
      );
      return print(context, changed, [changed.id, ...detailsText(changed)].join('\n'));
    },
  };
}

/** Lines about name, tags and note; none of what there is not. */
export function detailsText({ name, tags, note }: Omit<Changed, 'id'>): string[] {
  return [
    ...(name === null ? [] : [`name          ${name}`]),
    ...(tags.length === 0 ? [] : [`tags          ${tags.join(', ')}`]),
    ...(note === null ? [] : [`note          ${note.replaceAll('\n', '\n              ')}`]),
  ];
}

/** The tags of `--tags`. @throws ProductError `invalid_request` */
export function tagsOf(text: string): string[] {
  const tags = text.split(',').map((tag) => tag.trim());
  if (text.trim() === '') return [];
  if (tags.every((tag) => tag !== '')) return [...new Set(tags)];
  throw new ProductError('invalid_request', `--tags ${JSON.stringify(text)} has an empty tag between commas.`);
}

/** The line under a list that says how many match. */
export function totalText({ data, total }: { data: readonly unknown[]; total: number }): string {
  return total > data.length ? `\n${data.length} of ${total}` : '';
}
