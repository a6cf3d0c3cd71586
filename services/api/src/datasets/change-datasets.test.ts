import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ProductError } from '@lorasmith/contracts';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ByteQuota, createByteQuota } from '../access/byte-quota.js';
import type { AccessLimits } from '../access/limits.js';
import { createDatasetChanges, DatasetCatalog, type DatasetChangesOptions, type Uploader } from './dataset-catalog.js';
import { RowChecks } from './row-checks.js';
import type { UploadSource } from './upload-source.js';

let root: string;
let store: BundleStore;
let catalog: DatasetCatalog;
let warnings: string[];

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-changes-'));
  store = await openBundleStore({ root, kind: 'datasets' });
  catalog = new DatasetCatalog({
    store,
    limits: { maxBytes: 1_000, maxLineBytes: 100, maxRows: 10 },
    reader: noReader,
    checks,
  });
  warnings = [];
});
afterEach(() => rm(root, { recursive: true, force: true }));

// The compiled file, because a thread cannot run TypeScript.
const checks = new RowChecks(fileURLToPath(new URL('../../dist/datasets/check-thread.js', import.meta.url)));
afterAll(() => checks.close());

const noReader = {
  read: () => {
    throw new Error('it reads JSONL alone');
  },
};

const limits = {
  uploads: 1,
  totalUploads: 1,
  datasetBytes: 100,
  totalDatasetBytes: 100,
  datasets: 10,
  totalDatasets: 10,
} as AccessLimits;
const uploader = (): Uploader => ({ owner: null, key: null, limits, log });
const log = { warn: (...parts: unknown[]) => void warnings.push(String(parts.at(-1))) };
const source = (text: string): UploadSource => ({
  chunks: (async function* () {
    yield Buffer.from(text);
  })(),
  declaredBytes: Buffer.byteLength(text),
  columns: undefined,
  signal: new AbortController().signal,
  name: async () => 'a name',
});
const redisUnavailable = new ProductError('redis_unavailable', 'Redis cannot be reached.');

function changesWith(changes: Partial<DatasetChangesOptions & DatasetChangesOptions['jobs']['inputs']> = {}) {
  const { beginDeletion = async () => [], allow = async () => {}, ...rest } = changes;
  return createDatasetChanges({
    catalog,
    jobs: { inputs: { beginDeletion, allow } },
    examples: { removeDataset: async () => {} },
    quota: createByteQuota({ what: 'datasets', reservations: null, stored: (owner) => catalog.stored(owner) }),
    ...rest,
  });
}

describe('an upload', () => {
  test('is stored once, and jobs can use it again', async () => {
    const allowed: string[] = [];
    const changes = changesWith({ allow: async (id) => void allowed.push(id) });
    const { dataset, created } = await changes.upload(() => source('{"text":"a"}\n'), uploader());
    expect(dataset).toMatchObject({ name: 'a name', rows: 1, format: 'text' });
    expect(created).toBe(true);
    expect(await changes.upload(() => source('{"text":"a"}\n'), uploader())).toEqual({ dataset, created: false });
    expect(allowed).toEqual([dataset.id]);
  });

  test('is stored without Redis, and an unreleased reservation is logged, not answered', async () => {
    const byteQuota = createByteQuota({
      what: 'datasets',
      reservations: null,
      stored: (owner) => catalog.stored(owner),
    });
    const quota: ByteQuota = {
      begin: (...of) => Object.assign(byteQuota.begin(...of), { end: () => Promise.reject(redisUnavailable) }),
    };
    const changes = changesWith({ quota, allow: () => Promise.reject(redisUnavailable) });
    expect(await changes.upload(() => source('{"text":"a"}\n'), uploader())).toMatchObject({ created: true });
    expect(warnings).toEqual([expect.stringContaining('expires later')]);
  });

  test('an upload beyond a limit stores nothing, and ends before its source is opened', async () => {
    const changes = changesWith();
    const tooLong = `{"text":"${'a'.repeat(90)}"}\n`;
    await expect(changes.upload(() => source(tooLong + tooLong), uploader())).rejects.toMatchObject({
      code: 'quota_exceeded',
    });
    let isOpened = false;
    const first = changes.upload(() => source('{"text":"a"}\n'), uploader());
    const second = changes.upload(() => {
      isOpened = true;
      return source('{"text":"b"}\n');
    }, uploader());
    await expect(second).rejects.toMatchObject({ code: 'quota_exceeded' });
    expect(isOpened).toBe(false);
    const { dataset } = await first;
    expect(await store.list()).toEqual([dataset.id]);
    // The limit applies to concurrent uploads.
    await changes.upload(() => source('{"text":"b"}\n'), uploader());
  });
});

describe('a deletion', () => {
  const upload = async () => (await changesWith().upload(() => source('{"text":"a"}\n'), uploader())).dataset.id;

  test('removes the dataset and its tokens', async () => {
    const id = await upload();
    const removed: string[] = [];
    await changesWith({ examples: { removeDataset: async (of) => void removed.push(of) } }).delete(id, log);
    expect(await store.list()).toEqual([]);
    expect(removed).toEqual([id]);
  });

  test('is refused while jobs use the dataset, and records nothing for a missing dataset', async () => {
    const id = await upload();
    const changes = changesWith({ beginDeletion: async () => ['job_1'] });
    const message = expect.stringContaining('job_1');
    await expect(changes.delete(id, log)).rejects.toMatchObject({ code: 'in_use', message });
    expect(await store.list()).toEqual([id]);
    const noted: string[] = [];
    const other = changesWith({
      beginDeletion: async (of) => {
        noted.push(of);
        return [];
      },
    });
    await expect(other.delete('ds_none', log)).rejects.toMatchObject({ code: 'dataset_not_found' });
    expect(noted).toEqual([]);
  });

  test('succeeds even if its tokens cannot be removed; they are removed later', async () => {
    const id = await upload();
    const examples = { removeDataset: () => Promise.reject(new Error('busy')) };
    await changesWith({ examples }).delete(id, log);
    expect(await store.list()).toEqual([]);
    expect(warnings).toEqual(['the tokens of a dataset were not removed']);
  });
});
