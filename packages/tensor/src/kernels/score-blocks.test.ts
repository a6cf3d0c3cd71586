import { expect, test } from 'vitest';
import { scope } from '../tensor.js';
import { toFloat32Array } from '../transfer.js';
import { BlockMasks, MOST_SCORES, scoreBlocks } from './score-blocks.js';

test('rows whose scores are few are one block', () => {
  expect(scoreBlocks(512, null, 4 * 32)).toEqual([{ firstQuery: 0, queries: 512, firstKey: 0, keys: 512 }]);
  expect(scoreBlocks(9, 3, 2)).toEqual([{ firstQuery: 0, queries: 9, firstKey: 0, keys: 9 }]);
});

test.each([
  [2048, null, 4 * 32],
  [8192, null, 32],
  [8192, 1024, 32],
  [8191, 1, 16],
  [131_072, null, 32],
  [700, 37, 500],
  [3, null, MOST_SCORES],
])('rows of %i tokens, window %s, %i heads: every query once, with its keys, within the bound', (...size) => {
  const [length, window, heads] = size;
  const blocks = scoreBlocks(length, window, heads);
  let next = 0;
  for (const { firstQuery, queries, firstKey, keys } of blocks) {
    expect(firstQuery).toBe(next);
    expect(firstKey + keys).toBe(firstQuery + queries);
    expect(firstKey).toBe(window === null ? 0 : Math.max(0, firstQuery - window + 1));
    // A block of one query cannot be smaller.
    if (queries > 1) expect(heads * queries * keys).toBeLessThanOrEqual(MOST_SCORES);
    next += queries;
  }
  expect(next).toBe(length);
});

test('long rows need hardly more blocks than their causal scores fill', () => {
  const blocks = scoreBlocks(8192, null, 32);
  expect(blocks.length).toBeLessThan(1.4 * ((32 * 8192 ** 2) / 2 / MOST_SCORES));
});

test.each([
  [7, null, 3],
  [11, 4, 1],
  [11, 1, 2],
  [12, 5, 2],
  [10, 30, 2],
])('the mask of each block of %i tokens, window %s: which keys its queries see', (length, window, heads) => {
  const blocks = scoreBlocks(length, window, heads, 12 * heads);
  expect(blocks.length).toBeGreaterThan(1);
  scope(() => {
    const masks = new BlockMasks(blocks, window);
    for (const block of blocks) {
      const { firstQuery, queries, firstKey, keys } = block;
      const mask = masks.of(block);
      expect(mask.shape).toEqual([queries, keys]);
      const expected = Array.from({ length: queries * keys }, (_, i) => {
        const query = firstQuery + Math.floor(i / keys);
        const key = firstKey + (i % keys);
        return key <= query && (window === null || key > query - window);
      });
      expect([...toFloat32Array(mask)].map((value) => value === 0)).toEqual(expected);
    }
  });
});
