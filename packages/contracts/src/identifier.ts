import { createHash, randomBytes } from 'node:crypto';
import { type Static, Type } from 'typebox';

const identifier = (prefix: string, description: string) =>
  Type.String({ pattern: `^${prefix}_[0-9a-z]{24}$`, description, examples: [`${prefix}_0123456789abcdef01234567`] });

/** See {@link datasetIdOf}. */
export const DatasetId = identifier(
  'ds',
  'From the sha256 of the uploaded bytes and the owner: the same file of the same owner has the same id.',
);
export const JobId = identifier('job', 'Opaque.');
export const AdapterId = identifier('ad', 'Opaque; never reused for other bytes.');
/** The id of an API key; that of the key under which something was made is its owner. */
export const KeyId = identifier('key', 'Of an API key. It is no secret.');

export type DatasetId = Static<typeof DatasetId>;
export type JobId = Static<typeof JobId>;
export type AdapterId = Static<typeof AdapterId>;
export type KeyId = Static<typeof KeyId>;

/** A new random id: the prefix, `_`, and 24 hexadecimal digits (96 bits). */
export function newIdentifier(prefix: 'job' | 'ad' | 'req' | 'key'): string {
  return `${prefix}_${randomBytes(12).toString('hex')}`;
}

/**
 * The id of a dataset with this sha256 (hexadecimal). The same bytes of another owner have another id, which tells
 * nobody that somebody else has them.
 */
export function datasetIdOf(sha256: string, owner: KeyId | null): DatasetId {
  const own = owner === null ? sha256 : createHash('sha256').update(`${owner} ${sha256}`).digest('hex');
  return `ds_${own.slice(0, 24)}`;
}

/** Name of a base model: a folder name, so no separators and no leading dot. */
export const MODEL_NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$';
export const ModelName = Type.String({
  pattern: MODEL_NAME_PATTERN,
  description: 'The folder of the base model under the models folder.',
  examples: ['SmolLM2-135M-Instruct'],
});
export type ModelName = Static<typeof ModelName>;
