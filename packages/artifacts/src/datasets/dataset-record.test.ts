import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DATASET_FILES, type UploadedDataset } from '@lorasmith/contracts';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { datasetIdOf, readDataset, writeDataset } from './dataset-record.js';

let root: string;
let datasets: BundleStore;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-datasets-'));
  datasets = await openBundleStore({ root, kind: 'datasets' });
});
afterEach(() => rm(root, { recursive: true, force: true }));

const sha256 = 'a'.repeat(64);
const dataset: UploadedDataset = {
  id: datasetIdOf(sha256, null),
  object: 'dataset',
  owner: null,
  sha256,
  name: 'a name',
  format: 'text',
  rows: 1,
  bytes: 12,
  features: null,
  warnings: [],
  created_at: '2026-01-01T00:00:00Z',
};

async function publish(record: unknown, id = dataset.id) {
  const staging = await datasets.stage();
  await staging.write(DATASET_FILES.record, [Buffer.from(JSON.stringify(record))]);
  await datasets.publish(staging, id);
}

test('a record is read as it was written', async () => {
  const staging = await datasets.stage();
  await writeDataset(staging, dataset);
  await datasets.publish(staging, dataset.id);
  expect(await readDataset(datasets, dataset.id)).toEqual(dataset);
  expect(await datasets.readJson(dataset.id, DATASET_FILES.record)).toEqual({ version: 1, ...dataset });
});

test('a record that no reader would accept is not written', async () => {
  const staging = await datasets.stage();
  await expect(writeDataset(staging, { ...dataset, rows: 0 })).rejects.toMatchObject({ code: 'internal_error' });
  await datasets.publish(staging, dataset.id);
  expect(await datasets.files(dataset.id)).toEqual([]);
});

test.each([
  ['with a field too few', { version: 1, ...dataset, rows: undefined }, 'internal_error'],
  ['of another dataset', { version: 1, ...dataset, id: datasetIdOf('b'.repeat(64), null) }, 'internal_error'],
  ['of a later version', { version: 2, ...dataset }, 'unsupported_version'],
  ['that is no object', null, 'internal_error'],
])('a record %s is refused', async (_, record, code) => {
  await publish(record);
  await expect(readDataset(datasets, dataset.id)).rejects.toMatchObject({ code });
});

test.each([dataset.id, '../datasets', 'ds_', ''])('there is no dataset %j', async (id) => {
  await expect(readDataset(datasets, id)).rejects.toMatchObject({ code: 'dataset_not_found', param: 'dataset' });
});

test('the same bytes of another owner have another id', () => {
  expect(datasetIdOf(sha256, `key_${'0'.repeat(24)}`)).toMatch(/^ds_[0-9a-f]{24}$/);
  expect(datasetIdOf(sha256, `key_${'0'.repeat(24)}`)).not.toBe(dataset.id);
});
