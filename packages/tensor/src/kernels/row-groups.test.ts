import { expect, test } from 'vitest';
import { scope } from '../tensor.js';
import { tensorOf, toFloat32Array, toInt32Array } from '../transfer.js';
import { groupRows, layoutGroups, type RowGroup } from './row-groups.js';

function layout(lengths: number[], windows: (number | null)[] = [null]): RowGroup[] {
  const positions = Math.max(...lengths);
  const table = () => tensorOf(new Float32Array(positions), [positions, 1]);
  return layoutGroups({ lengths, angles: { cosine: table(), sine: table() }, windows });
}
const shapes = (lengths: number[]) =>
  scope(() => layout(lengths).map(({ start, tokens, rows, length }) => [start, tokens, rows, length]));

test('a group grows while its rows are of similar length; short ones are always together', () => {
  expect(shapes([100, 90, 80, 79, 64])).toEqual([
    [0, 270, 3, 100],
    [270, 143, 2, 79],
  ]);
  expect(shapes([30, 2, 1, 9])).toEqual([[0, 42, 4, 30]]);
  expect(groupRows([])).toEqual([]);
});

test('a group is bounded by the scores it has at once', () => {
  // 2048 × 2048 scores are the bound of one group: one such row each.
  expect(shapes([2048, 2048, 2048])).toHaveLength(3);
  expect(shapes([1024, 1024, 1024, 1024, 1024]).map(([, , rows]) => rows)).toEqual([4, 1]);
  // A row beyond the bound is a group of its own.
  expect(shapes([2100, 2100]).map(([, , rows]) => rows)).toEqual([1, 1]);
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
    const mask = [...toFloat32Array(layout([3])[0]!.masks.get(null)!)].map((value) => value === 0);
    expect(mask).toEqual([true, false, false, true, true, false, true, true, true]);
  });
});
