import { type Static, Type } from 'typebox';

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
