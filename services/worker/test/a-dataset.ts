import { createHash } from 'node:crypto';
import type { UploadedDataset } from '@lorasmith/contracts';
import { openBundleStore } from '@lorasmith/storage';
import { DATASET } from './a-job-spec.js';

/** Sixteen rows of text. */
export const ROWS = Array.from(
  { length: 16 },
  (_, i) => `{"text":"the number ${i} follows the number ${i - 1}"}\n`,
).join('');

/** The record of a dataset with the rows {@link ROWS}. */
export function aDataset(changes: Partial<UploadedDataset> = {}): UploadedDataset {
  return {
    id: DATASET,
    object: 'dataset',
    owner: null,
    sha256: createHash('sha256').update(ROWS).digest('hex'),
    name: null,
    format: 'text',
    rows: 16,
    bytes: Buffer.byteLength(ROWS),
    features: null,
    warnings: [],
    created_at: '2026-01-01T00:00:00Z',
    ...changes,
  };
}

/** Stores a dataset as the api does. */
export async function putDataset(dataDir: string, rows = ROWS, record = aDataset()): Promise<void> {
  const datasets = await openBundleStore({ root: dataDir, kind: 'datasets' });
  const staging = await datasets.stage();
  await staging.write('data.jsonl', [Buffer.from(rows)]);
  await staging.write('dataset.json', [Buffer.from(JSON.stringify({ version: 1, ...record }))]);
  await datasets.publish(staging, record.id, record);
}
