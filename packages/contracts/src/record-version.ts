import { Type } from 'typebox';
import { ProductError } from './error.js';

/** The version of every stored record: job, dataset, manifest, checkpoint. A change that older code cannot read raises it. */
export const RECORD_VERSION = 1;
export const RecordVersion = Type.Literal(RECORD_VERSION);

/**
 * Call it before the schema is checked: of a record of another version every field may be different.
 * @param what - Names the record in the message, for instance `The manifest of ad_…`
 * @throws ProductError `unsupported_version`
 */
export function checkRecordVersion(record: unknown, what: string): void {
  if (typeof record !== 'object' || record === null || !('version' in record)) return;
  if (record.version === RECORD_VERSION) return;
  const message = `${what} has version ${String(record.version)}, and this release reads version ${RECORD_VERSION}. Use the release that wrote it, or delete it.`;
  throw new ProductError('unsupported_version', message);
}
