import { randomBytes } from 'node:crypto';
import { type Static, Type } from 'typebox';

const identifier = (prefix: string, description: string) =>
  Type.String({ pattern: `^${prefix}_[0-9a-z]{24}$`, description, examples: [`${prefix}_0123456789abcdef01234567`] });

/** `ds_` and the first 24 hexadecimal digits of the file's sha256. */
export const DatasetId = identifier('ds', 'From the sha256 of the uploaded bytes: the same file has the same id.');
export const JobId = identifier('job', 'Opaque.');
export const AdapterId = identifier('ad', 'Opaque; never reused for other bytes.');

export type DatasetId = Static<typeof DatasetId>;
export type JobId = Static<typeof JobId>;
export type AdapterId = Static<typeof AdapterId>;

/** A new random id: the prefix, `_`, and 24 hexadecimal digits (96 bits). */
export function newIdentifier(prefix: 'job' | 'ad' | 'req'): string {
  return `${prefix}_${randomBytes(12).toString('hex')}`;
}

/** The id of a dataset with this sha256 (hexadecimal). */
export function datasetIdOf(sha256: string): DatasetId {
  return `ds_${sha256.slice(0, 24)}`;
}

/** Name of a base model: a folder name, so no separators and no leading dot. */
export const MODEL_NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$';
export const ModelName = Type.String({
  pattern: MODEL_NAME_PATTERN,
  description: 'The folder of the base model under the models folder.',
  examples: ['SmolLM2-135M-Instruct'],
});
export type ModelName = Static<typeof ModelName>;
