import { expect, test } from 'vitest';
import { scope } from '../tensor.js';
import { tensorOf, toFloat32Array, toInt32Array } from '../transfer.js';
import { groupRows, layoutGroups, type RowGroup } from './score-blocks.js';

function layout(lengths: number[], windows: (number | null)[] = [null]): RowGroup[] {
  const positions = Math.max(...lengths);
  const table = () => tensorOf(new Float32Array(positions), [positions, 1]);
  return layoutGroups({ lengths, heads: 32, angles: { cosine: table(), sine: table() }, windows });
}
const shapes = (lengths: number[]) =>
  scope(() => layout(lengths).map(({ start, tokens, rows, length }) => [start, tokens, rows, length]));

test('a group grows while its rows are of similar length; short ones are always together', () => {
  expect(shapes([100, 90, 80, 79, 64])).toEqual([
    [0, 270, 3, 100],
    [270, 143, 2, 79],
  ]);
  expect(shapes([30, 2, 1, 9])).toEqual([[0, 42, 4, 30]]);
  expect(groupRows([], 32)).toEqual([]);
});

test('a group of long rows is bounded: a block of its scores has at least 128 queries of each row', () => {
  // With 32 heads, 8,192 tokens in rows of any length.
  expect(shapes([2048, 2048, 2048, 2048, 2048]).map(([, , rows]) => rows)).toEqual([4, 1]);
  expect(shapes([4096, 4096, 4096]).map(([, , rows]) => rows)).toEqual([2, 1]);
  expect(groupRows([2048, 2048, 2048, 2048, 2048], 4)).toHaveLength(1);
  // A row beyond the bound is a group of its own.
  expect(shapes([8200, 8200]).map(([, , rows]) => rows)).toEqual([1, 1]);
  // Rows up to 128 tokens are together as long as their scores fit into one block.
  const short = Array.from({ length: 100 }, () => 128);
  expect(shapes(short).map(([, , rows]) => rows)).toEqual([64, 36]);
});

test('rows of one length need no padding', () => {
  scope(() => {
    expect(layout([5, 5])[0]!.padding).toBeNull();
  });
});

test('padding: where each token goes, and back; padding reads its own row; the mask is 1 at tokens', () => {
  scope(() => {
    const { padding } = layout([3, 1, 2])[0]!;
    expect([...toInt32Array(padding!.toPadded)]).toEqual([0, 1, 2, 3, 3, 3, 4, 5, 4]);
    expect([...toInt32Array(padding!.toStream)]).toEqual([0, 1, 2, 3, 6, 7]);
    expect([...toFloat32Array(padding!.mask)]).toEqual([1, 1, 1, 1, 0, 0, 1, 1, 0]);
    expect(padding!.mask.shape).toEqual([9, 1]);
  });
});

test('the causal mask lets a query see its own key and those before', () => {
  scope(() => {
    const mask = [...toFloat32Array(layout([3])[0]!.masks.get(null)!.mask)].map((value) => value === 0);
    expect(mask).toEqual([true, false, false, true, true, false, true, true, true]);
  });
});
