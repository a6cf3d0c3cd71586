import { type Static, type TSchema, Type } from 'typebox';
import { ProductError } from './error.js';
import { closed, Label, Nullable, UNPRINTABLE } from './schema-parts.js';

const MAX_TAGS = 20;
const MAX_TAG_CHARACTERS = 50;
export const MAX_NOTE_CHARACTERS = 4_000;
export const MAX_NAME_CHARACTERS = 128;
/** Limits, for docs/limits.md. */
export const detailsLimits = {
  tags: { value: MAX_TAGS, unit: `tags of up to ${MAX_TAG_CHARACTERS} characters`, beyond: '400 `invalid_request`' },
  note: { value: MAX_NOTE_CHARACTERS, unit: 'characters', beyond: '400 `invalid_request`' },
};

/** Characters that are not seen, which a tag has neither within nor at its ends. */
const UNSEEN = `${UNPRINTABLE}\\u200b-\\u200d\\u2060\\ufeff`;
/** A word or some, without commas: several tags are written with commas between them. */
export const Tag = Type.String({
  minLength: 1,
  maxLength: MAX_TAG_CHARACTERS,
  pattern: `^[^\\s,${UNSEEN}](?:[^,${UNSEEN}]*[^\\s,${UNSEEN}])?$`,
});
const tags = Type.Array(Tag, {
  maxItems: MAX_TAGS,
  uniqueItems: true,
  description: 'Words of your own, to find it by. Without commas, and without blanks at their ends.',
});
/** A text of some lines. */
export const Note = Type.String({
  minLength: 1,
  maxLength: MAX_NOTE_CHARACTERS,
  // Lines and tabs, and otherwise what a label may have.
  pattern: `^(?:[\\t\\n]|[^${UNPRINTABLE}])*$`,
});
const note = Nullable(Note, { description: 'A text of your own.' });

/** Fields of the record of a job, an adapter or a dataset that its user may change, besides the name. */
export const ownDetails = { tags, note };

/** The same fields in a request that makes such a thing. */
export const initialDetails = {
  tags: Type.Optional(Type.Unsafe<string[]>({ ...tags, default: [] })),
  note: Type.Optional(Nullable(Note, { description: 'A text of your own.', default: null })),
};

/** The name, the tags and the note of a job, an adapter or a dataset. */
export interface Details {
  name: string | null;
  tags: string[];
  note: string | null;
}

/** The values of {@link ownDetails}. */
export type OwnDetails = Omit<Details, 'name'>;

/** The body of `PATCH /jobs/:id`, `/adapters/:id` and `/datasets/:id`. What is left out stays as it is. */
export const DetailsChange = Type.Partial(
  Type.Object({ name: Nullable(Label(MAX_NAME_CHARACTERS), { description: 'Null: it has none.' }), tags, note }),
  {
    $id: 'DetailsChange',
    ...closed,
    minProperties: 1,
    examples: [{ name: 'dates, second try', tags: ['baseline', 'dates'], note: 'With the corrected rows.' }],
  },
);
export type DetailsChange = Static<typeof DetailsChange>;

/** Tags of a query: one, or several with commas between them. */
const tagList = Type.String({
  minLength: 1,
  maxLength: MAX_TAGS * (MAX_TAG_CHARACTERS + 1),
  description:
    'Only those with this tag, whatever its case; with all of them, if there are several with commas between.',
});

const time = (description: string) =>
  Type.String({
    pattern: '^\\d{4}-\\d{2}-\\d{2}(?:T\\d{2}:\\d{2}(?::\\d{2}(?:\\.\\d{1,9})?)?(?:Z|[+-]\\d{2}:\\d{2}))?$',
    description: `${description} A day, or a time of RFC 3339.`,
    examples: ['2026-03-01', '2026-03-01T12:00:00Z'],
  });

const searchText = (description: string) =>
  Type.String({ minLength: 1, maxLength: MAX_NAME_CHARACTERS, description: `${description}, whatever its case.` });

/** Filters that all lists of named things have. */
export const detailsFilters = {
  name: Type.Optional(searchText('Only those with this text in their name')),
  tag: Type.Optional(tagList),
  created_after: Type.Optional(time('Only those created at this time or later.')),
  created_before: Type.Optional(time('Only those created before this time.')),
} satisfies Record<string, TSchema>;

/** The filter of what is typed into a search field. */
export const searchFilter = (where: string) => Type.Optional(searchText(`Only those with this text in ${where}`));

/** The filters of a query as they are compared: texts in lower case, times in milliseconds. */
export interface DetailsFilter {
  name?: string;
  tags?: string[];
  createdFrom?: number;
  /** Exclusive. */
  createdBefore?: number;
}

/** @throws ProductError `invalid_request` for a time that does not exist */
export function detailsFilterOf(query: {
  name?: string | undefined;
  tag?: string | undefined;
  created_after?: string | undefined;
  created_before?: string | undefined;
}): DetailsFilter {
  const tags = (query.tag ?? '').split(',').map((tag) => tag.trim().toLowerCase());
  const wanted = [...new Set(tags.filter((tag) => tag !== ''))];
  const from = timeOf('created_after', query.created_after);
  const before = timeOf('created_before', query.created_before);
  return {
    ...(query.name === undefined ? {} : { name: query.name.toLowerCase() }),
    ...(wanted.length === 0 ? {} : { tags: wanted }),
    ...(from === undefined ? {} : { createdFrom: from }),
    ...(before === undefined ? {} : { createdBefore: before }),
  };
}

function timeOf(param: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = Date.parse(text);
  // JavaScript takes 30 February for 2 March.
  const [day = ''] = text.split('T', 1);
  const isADay = new Date(`${day}T00:00:00Z`).toJSON()?.startsWith(day) ?? false;
  if (!Number.isNaN(ms) && isADay) return ms;
  throw new ProductError('invalid_request', `${param} is not a time: there is no ${text}.`, { param });
}

/** True if one of these texts has the text of a search in it, whatever its case. */
export function hasText(texts: readonly (string | null)[], q: string | undefined): boolean {
  const wanted = q?.toLowerCase() ?? '';
  return texts.some((text) => (text ?? '').toLowerCase().includes(wanted));
}

/** True if something of this name, tags and time is what a filter wants. */
export function matchesDetails(
  { name, tags, created_at }: Pick<Details, 'name' | 'tags'> & { created_at: string },
  filter: DetailsFilter,
): boolean {
  const { createdFrom = Number.NEGATIVE_INFINITY, createdBefore = Number.POSITIVE_INFINITY } = filter;
  const createdMs = Date.parse(created_at);
  const has = tags.map((tag) => tag.toLowerCase());
  return (
    createdMs >= createdFrom &&
    createdMs < createdBefore &&
    (name ?? '').toLowerCase().includes(filter.name ?? '') &&
    (filter.tags ?? []).every((tag) => has.includes(tag))
  );
}
