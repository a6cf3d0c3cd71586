import { type Dataset, type OpenaiFile, ProductError } from '@lorasmith/contracts';
import { isRowChange } from '../../datasets/mapping-report.js';

/** A dataset as a file. */
export function fileOfDataset({ id, bytes, name, warnings, created_at: createdAt }: Dataset): OpenaiFile {
  const changes = warnings.filter(({ code }) => isRowChange(code)).map(({ message }) => message);
  return {
    id,
    object: 'file',
    bytes,
    created_at: unixSeconds(createdAt),
    filename: name ?? `${id}.jsonl`,
    purpose: 'fine-tune',
    status: 'processed',
    status_details: changes.length === 0 ? null : changes.join(' '),
  };
}

/** The error for a file that does not exist, or that the caller may not use. */
export function fileNotFound(id: string, param = 'id'): ProductError {
  return new ProductError('dataset_not_found', `There is no file ${JSON.stringify(id.slice(0, 100))}.`, { param });
}

export function unixSeconds(time: string): number {
  return Math.floor(Date.parse(time) / 1000);
}
