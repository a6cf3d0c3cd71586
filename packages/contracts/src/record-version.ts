import { Type } from 'typebox';
import { ProductError } from './error.js';

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
