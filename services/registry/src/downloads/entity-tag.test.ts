import { expect, test } from 'vitest';
import { entityTag, matchesIfNoneMatch, matchesIfRange } from './entity-tag.js';

const etag = entityTag('a.tar', 'sha');

test('a tag is strong, quoted, and distinguishes parts from their concatenation', () => {
  expect(etag).toMatch(/^"[0-9a-f]{64}"$/);
  expect(entityTag('ab', 'c')).not.toBe(entityTag('a', 'bc'));
});

test('If-None-Match accepts lists, weak tags and *', () => {
  for (const header of [etag, `W/${etag}`, `"other", ${etag}`, '*'])
    expect(matchesIfNoneMatch(header, etag)).toBe(true);
  for (const header of [undefined, '"other"', '', etag.slice(1)]) expect(matchesIfNoneMatch(header, etag)).toBe(false);
});

test('If-Range accepts only the strong tag', () => {
  expect(matchesIfRange(undefined, etag)).toBe(true);
  expect(matchesIfRange(etag, etag)).toBe(true);
  expect(matchesIfRange(`W/${etag}`, etag)).toBe(false);
  expect(matchesIfRange('Wed, 21 Oct 2015 07:28:00 GMT', etag)).toBe(false);
});
