import { type Static, type TSchema, Type } from 'typebox';
import { ProductError } from './error.js';

/** The option of an object's schema that allows no other fields. */
export const closed = { additionalProperties: false };

export const count = (description: string) => Type.Integer({ minimum: 0, description });

export const Nullable = <Schema extends TSchema>(
  schema: Schema,
  options: { default?: unknown; description?: string } = {},
) => Type.Union([schema, Type.Null()], options);

const identifier = (prefix: string, description: string) =>
  Type.String({ pattern: `^${prefix}_[0-9a-z]{24}$`, description, examples: [`${prefix}_0123456789abcdef01234567`] });

export const DatasetId = identifier(
  'ds',
  'From the sha256 of the uploaded bytes and the owner: the same file of the same owner has the same id.',
);
export const JobId = identifier('job', 'Opaque.');
export const AdapterId = identifier('ad', 'Opaque; never reused for other bytes.');
/** The id of an API key. Everything that is created with the key belongs to this id. */
export const KeyId = identifier('key', 'Id of an API key. Not a secret.');

export const SweepId = identifier('sw', 'Opaque.');

export type DatasetId = Static<typeof DatasetId>;
export type JobId = Static<typeof JobId>;
export type AdapterId = Static<typeof AdapterId>;
export type KeyId = Static<typeof KeyId>;
export type SweepId = Static<typeof SweepId>;

/** A new random id: the prefix, `_`, and 24 hexadecimal digits (96 bits). */
export function newIdentifier(prefix: 'job' | 'ad' | 'req' | 'key' | 'sw'): string {
  // Web Crypto: this package also loads in browsers.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${prefix}_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

/** Name of a base model: a folder name, so no separators and no leading dot. */
export const MODEL_NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$';
export const ModelName = Type.String({
  pattern: MODEL_NAME_PATTERN,
  description: "Name of the base model's folder in the models folder.",
  examples: ['SmolLM2-135M-Instruct'],
});
export type ModelName = Static<typeof ModelName>;

/** The owner of a thing. */
export const Owner = Nullable(KeyId, {
  description: 'The API key that owns it. Null: it was created without a key, and only admins see it.',
});
export type Owner = Static<typeof Owner>;

/** The permissions of a key. `admin`: everything. `train`: everything with its own things. `read`: read its own things. */
export const ROLES = ['admin', 'train', 'read'] as const;
export const Role = Type.Enum(ROLES);
export type Role = (typeof ROLES)[number];

/**
 * Characters, as ranges of a regular expression, that change how a terminal or a page shows the text around them: control
 * characters, line and paragraph separators, marks of text direction.
 */
export const UNPRINTABLE = '\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069';

/**
 * Characters without ink, as ranges: blanks, soft hyphens, fillers, joiners, variation selectors. A name may have them, as Persian and
 * emoji do, but one of nothing else could not be seen or pressed.
 */
const INVISIBLE =
  '\\u0020\\u00a0\\u00ad\\u034f\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f' +
  '\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb';

/** The pattern of a {@link Label}: no unprintable character, and one that can be seen. */
export const LABEL_PATTERN = `^(?![${INVISIBLE}]*$)[^${UNPRINTABLE}]*$`;

/** A name that its user chooses, and that others may see in a list. */
export const Label = (maxLength: number, description?: string) =>
  Type.String({
    minLength: 1,
    maxLength,
    pattern: LABEL_PATTERN,
    ...(description === undefined ? {} : { description }),
  });

const label = new RegExp(LABEL_PATTERN, 'u');
const printable = new RegExp(`^[^${UNPRINTABLE}]*$`);

/** True if a text can be a {@link Label} of any length. */
export function isLabel(text: string): boolean {
  return label.test(text);
}

/** True if a text has none of the characters that a {@link Label} may not have. */
export function isPrintable(text: string): boolean {
  return printable.test(text);
}

/** Values by which lists are sorted from the greatest down, unless a query says otherwise. */
const DESCENDING: readonly string[] = ['created_at', 'time', 'duration'];

/** The parameters for the order of a list that can be sorted by these values. */
export function orderParameters<Sort extends string>(sorts: readonly Sort[], description: string) {
  const descending = sorts.filter((one) => DESCENDING.includes(one)).join(', ');
  return {
    sort: Type.Optional(Type.Unsafe<Sort>(Type.Enum([...sorts], { default: 'created_at', description }))),
    order: Type.Optional(
      Type.Enum(['asc', 'desc'], { description: `By default desc for ${descending}, otherwise asc.` }),
    ),
  };
}

/** The order of a list by this value. @param order - What the query says. */
export function orderOf(sort: string, order: 'asc' | 'desc' | undefined): 'asc' | 'desc' {
  return order ?? (DESCENDING.includes(sort) ? 'desc' : 'asc');
}

/** A value that a list is sorted by. */
export type SortedValue = string | number | null;

/** Compares for an order, as `Array.sort` wants it: null comes last in both. Numbers in texts count as numbers. */
export function compareValues(one: SortedValue, other: SortedValue, order: 'asc' | 'desc'): number {
  if (one === null || other === null) return Number(one === null) - Number(other === null);
  const ascending =
    typeof one === 'number' && typeof other === 'number' ? one - other : COLLATOR.compare(String(one), String(other));
  return order === 'asc' ? ascending : -ascending;
}

/** The same on every host, whatever its locale. */
const COLLATOR = new Intl.Collator('en', { numeric: true });

/** Query of a list: `limit` items after the item with the id `after`, newest first. */
export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
    after: Type.Optional(Type.String({ maxLength: 64, description: 'Id of the last item of the previous page.' })),
  },
  closed,
);
export type PageQuery = Static<typeof PageQuery>;

const pageFields = <Item extends TSchema>(item: Item) => ({
  data: Type.Array(item),
  has_more: Type.Boolean(),
  next: Nullable(Type.String({ description: 'Send it as `after` for the next page.' })),
});

export const Page = <Item extends TSchema>(item: Item, id: string) =>
  Type.Object(pageFields(item), { $id: id, ...closed });

/** A page that says how many things the whole list has. */
export const CountedPage = <Item extends TSchema>(item: Item, id: string) =>
  Type.Object(
    {
      ...pageFields(item),
      total: Type.Integer({ minimum: 0, description: 'How many match the filters, on all pages.' }),
    },
    { $id: id, ...closed },
  );

export interface Paged<Item> {
  data: Item[];
  has_more: boolean;
  next: string | null;
}

export interface Counted<Item> extends Paged<Item> {
  /** How many match the filters, on all pages. */
  total: number;
}

/** The version of every stored record: job, dataset, manifest, checkpoint. It increases when older code cannot read a record. */
export const RECORD_VERSION = 1;
export const RecordVersion = Type.Literal(RECORD_VERSION);

/**
 * Call this before the schema check: every field of a record of another version may differ.
 * @param what - Names the record in the message, for instance `The manifest of ad_…`
 * @throws ProductError `unsupported_version`
 */
export function checkRecordVersion(record: unknown, what: string): void {
  if (typeof record !== 'object' || record === null || !('version' in record)) return;
  if (record.version === RECORD_VERSION) return;
  const message = `${what} has version ${String(record.version)}, and this release reads version ${RECORD_VERSION}. Use the release that wrote it, or delete it.`;
  throw new ProductError('unsupported_version', message);
}

/** The part of a compiled schema that checks a value. */
interface RecordSchema {
  Errors(record: unknown): { instancePath: string; message: string }[];
}

/**
 * Checks a record that is about to be written as its readers will check it.
 * @param schema - The compiled schema of the record.
 * @param what - As in {@link checkRecordVersion}.
 * @throws ProductError `internal_error`
 */
export function checkNewRecord(schema: RecordSchema, record: unknown, what: string): void {
  const [fault] = schema.Errors(record);
  if (fault === undefined) return;
  throw new ProductError('internal_error', `${what} cannot be written: ${fault.instancePath} ${fault.message}.`);
}
