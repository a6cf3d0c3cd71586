import { type Static, type TSchema, Type } from 'typebox';

/** The option of an object's schema that allows no other fields. */
export const closed = { additionalProperties: false };

export const count = (description: string) => Type.Integer({ minimum: 0, description });

export const Nullable = <Schema extends TSchema>(
  schema: Schema,
  options: { default?: unknown; description?: string } = {},
) => Type.Union([schema, Type.Null()], options);

/** The end of an id, behind its prefix. */
export const ID_END = '_[0-9a-z]{24}';

const identifier = (prefix: string, description: string) =>
  Type.String({ pattern: `^${prefix}${ID_END}$`, description, examples: [`${prefix}_0123456789abcdef01234567`] });

export const DatasetId = identifier(
  'ds',
  'From the sha256 of the uploaded bytes and the owner: the same file of the same owner has the same id.',
);
export const JobId = identifier('job', 'Opaque.');
export const AdapterId = identifier('ad', 'Opaque; never reused for other bytes.');
export const SnapshotId = identifier('sn', 'Opaque; never reused for other bytes.');
/** The id of an API key. Everything that is created with the key belongs to this id. */
export const KeyId = identifier('key', 'Id of an API key. Not a secret.');

export const SweepId = identifier('sw', 'Opaque.');
export const DeliveryId = identifier('dl', 'Opaque.');
export const ComparisonId = identifier('cmp', 'Opaque.');

export type DatasetId = Static<typeof DatasetId>;
export type JobId = Static<typeof JobId>;
export type AdapterId = Static<typeof AdapterId>;
export type SnapshotId = Static<typeof SnapshotId>;
export type KeyId = Static<typeof KeyId>;
export type SweepId = Static<typeof SweepId>;
export type DeliveryId = Static<typeof DeliveryId>;
export type ComparisonId = Static<typeof ComparisonId>;

/** A new random id: the prefix, `_`, and 24 hexadecimal digits (96 bits). */
export function newIdentifier(prefix: 'job' | 'ad' | 'req' | 'key' | 'sw' | 'dl' | 'cmp' | 'sn'): string {
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

/** The forms in which `prompt` and `completion`, `instruction` and `output` can be written. */
export const COMPLETION_FORMATS = ['chat', 'text'] as const;
export type CompletionFormat = (typeof COMPLETION_FORMATS)[number];
/** The form of a job that names none. */
export const DEFAULT_COMPLETION_FORMAT: CompletionFormat = 'chat';
