import { setImmediate as settle } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type ListOptions, listKeys, type S3Object } from './s3-objects.js';

const PREFIX = 'adapters/records/';

/** A bucket that answers as S3 does; counts the requests, and how many follow one another. */
function bucketOf(names: string[]) {
  const keys = [...names.map((name) => PREFIX + name), 'adapters/files/ad_0/x', 'datasets/records/ds_0.json'].sort();
  const counts = { requests: 0, longest: 0 };
  async function* list(prefix: string, { after = '' }: ListOptions = {}): AsyncGenerator<S3Object> {
    const listed = keys.filter((key) => key.startsWith(prefix) && key > after);
    for (let from = 0; from === 0 || from < listed.length; from += 1_000) {
      counts.requests++;
      counts.longest = Math.max(counts.longest, from / 1_000 + 1);
      await settle();
      for (const key of listed.slice(from, from + 1_000)) yield { key, bytes: 1, modified: new Date(0) };
    }
  }
  return { list, counts };
}

const hex = (index: number) => ((index * 2_654_435_761) % 2 ** 32).toString(16).padStart(8, '0');

test('a few keys take one request', async () => {
  const names = Array.from({ length: 999 }, (_, i) => `ad_${hex(i)}.json`);
  const bucket = bucketOf(names);
  expect(await listKeys(bucket, PREFIX)).toEqual(names.map((name) => PREFIX + name).sort());
  expect(bucket.counts.requests).toBe(1);
  expect(await listKeys(bucketOf([]), PREFIX)).toEqual([]);
});

test('many keys are listed in parts at the same time', async () => {
  const names = Array.from({ length: 40_000 }, (_, i) => `ad_${hex(i)}.json`);
  const bucket = bucketOf(names);
  expect(await listKeys(bucket, PREFIX)).toEqual(names.map((name) => PREFIX + name).sort());
  expect(bucket.counts.longest).toBeLessThanOrEqual(4);
  expect(bucket.counts.requests).toBeLessThanOrEqual(1 + 16 * 4);
});

test('every key is listed once, whatever the keys are', async () => {
  const word = (index: number) => ['~', 'Zeta', 'ad', 'ad_', 'ad_0', 'ad_f', 'ad_ff', 'zz_', '0'][index % 9];
  const mixed = Array.from({ length: 5_000 }, (_, i) => `${word(i)}${hex(i)}`);
  const plain = Array.from({ length: 3_000 }, (_, i) => `model-${i}.json`);
  const same = Array.from({ length: 3_000 }, (_, i) => `ad_7${hex(i)}.json`);
  for (const names of [mixed, plain, same, [...same, 'ad_7', 'ad_8', 'ad_8.json']]) {
    const found = await listKeys(bucketOf(names), PREFIX);
    expect(found).toEqual(names.map((name) => PREFIX + name).sort());
  }
});
