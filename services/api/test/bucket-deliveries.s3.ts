import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { AdapterFile, BucketTarget, Delivery } from '@lorasmith/contracts';
import { openS3Objects } from '@lorasmith/storage';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type RealS3, startRealS3 } from '../../../test/real-s3.js';
import { adapterId } from '../../registry/test/published-adapter.js';
import { DeliveryStand } from './delivery-stand.js';

// Deliveries into a bucket of a real S3 server, with a real Redis and a real registry.

const [ONE, TWO] = [adapterId(1), adapterId(2)];

let s3: RealS3;
let stand: DeliveryStand;
let round = 0;

beforeAll(async () => {
  s3 = await startRealS3();
  const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } = s3.environment;
  // The settings have them, so that the store may have others.
  for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) delete process.env[name];
  const { endpoint, region, bucket } = s3.settings;
  stand = await DeliveryStand.start({
    config: {
      buckets: [bucket, 'no-such-bucket'],
      s3: { endpoint, region, forcePathStyle: true, accessKeyId, secretAccessKey },
    },
  });
  await stand.publish(ONE);
  await stand.publish(TWO);
});
afterAll(async () => {
  await stand?.stop();
  await s3?.stop();
});
beforeEach(async () => {
  round++;
  await stand.run();
});

const to = (changes: Partial<BucketTarget> = {}): BucketTarget => ({
  kind: 's3',
  bucket: s3.settings.bucket,
  prefix: `teams/dates-${round}`,
  ...changes,
});
const deliver = (id: string, changes: Partial<BucketTarget> = {}): Promise<Delivery> => stand.deliver(id, to(changes));
const objects = (...parts: string[]) => path.join(s3.objectsDir, `teams/dates-${round}`, ...parts);
const latest = async () =>
  JSON.parse(await readFile(objects('latest.json'), 'utf8')) as {
    adapter: string;
    folder: string;
    files: AdapterFile[];
  };
/** Checks that all files that a reader finds have their digests. @returns their names */
const readable = async () => {
  const { folder, files } = await latest();
  for (const { name, sha256 } of files) {
    expect(
      createHash('sha256')
        .update(await readFile(objects(folder, name)))
        .digest('hex'),
    ).toBe(sha256);
  }
  return files.map(({ name }) => name).sort();
};

test('the files are below the id of the adapter, and one object names them with their digests', async () => {
  expect(await deliver(ONE)).toMatchObject({ status: 'delivered', attempts: 1, replaced: null, probe: null });
  expect(await latest()).toMatchObject({ adapter: ONE, folder: ONE, merged: false });
  expect(await readable()).toEqual(['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']);
  expect(await deliver(TWO)).toMatchObject({ status: 'delivered', replaced: ONE });
  expect(await latest()).toMatchObject({ adapter: TWO, folder: TWO });
  // Those who began to read the one before still can.
  expect((await readdir(objects())).sort()).toEqual([ONE, TWO, 'latest.json']);
});

test('a second delivery of the same adapter writes nothing again', async () => {
  await deliver(ONE);
  const before = await readFile(objects('latest.json'), 'utf8');
  expect(await deliver(ONE)).toMatchObject({ status: 'delivered', replaced: ONE });
  expect(await readFile(objects('latest.json'), 'utf8')).toBe(before);
});

test('a file with other bytes is written again, before it is named', async () => {
  await deliver(ONE);
  const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } = s3.environment;
  const bucket = openS3Objects({ ...s3.settings, credentials: { accessKeyId, secretAccessKey } });
  await bucket.write(`teams/dates-${round}/${ONE}/adapter_config.json`, Readable.from([Buffer.from('{}')]), 2);
  bucket.close();
  expect((await deliver(ONE)).status).toBe('delivered');
  await readable();
});

test('the merged model has a folder of its own', async () => {
  await deliver(ONE);
  expect(await deliver(ONE, { merged: true })).toMatchObject({ status: 'delivered', replaced: ONE });
  expect(await latest()).toMatchObject({ adapter: ONE, folder: `${ONE}-merged`, merged: true });
  expect(await readable()).toEqual(expect.arrayContaining(['README.md', 'config.json', 'model.safetensors']));
}, 60_000);

test('a store that is away is tried again, and names the adapter once it is back', async () => {
  await stand.run({ delaysMs: Array.from({ length: 50 }, () => 50) });
  await s3.pause();
  const { body } = await stand.ask('POST', `/adapters/${ONE}/deliveries`, to());
  await expect
    .poll(async () => (await stand.ask('GET', `/deliveries/${body.id}`)).body, { timeout: 60_000 })
    .toMatchObject({ status: 'queued', error: { code: 'storage_unavailable' } });
  await s3.resume();
  expect(await stand.ended(body.id)).toMatchObject({ status: 'delivered', error: null });
  await readable();
}, 90_000);

test('a bucket that does not exist is said with the settings of deliveries', async () => {
  const failed = await deliver(ONE, { bucket: 'no-such-bucket' });
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'storage_unavailable' } });
  expect(failed.error!.message).toContain('DELIVERY_BUCKETS');
});

test.each<[string, object, object]>([
  ['a bucket that is not listed', { bucket: 'another' }, { code: 'invalid_delivery', param: 'bucket' }],
  ['the layout of a merged model', { merged: true, layout: 'per-expert' }, { param: 'layout' }],
  ['a place within the files of an adapter', { prefix: `teams/x/${ONE}` }, { param: 'prefix' }],
  ['a place below the pointer', { prefix: 'x/latest.json' }, { param: 'prefix' }],
])('%s is refused before anything is queued', async (_, changes, error) => {
  const { status, body } = await stand.ask('POST', `/adapters/${ONE}/deliveries`, { ...to(), ...changes });
  expect([status, body.error]).toMatchObject([422, error]);
});
