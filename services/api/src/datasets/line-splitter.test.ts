import { expect, test } from 'vitest';
import { LineSplitter } from './line-splitter.js';

const TEXT = 'first\n\nthird line\r\nfourth: ü€😀\nlast without end';

function linesOf(text: string, chunkBytes: number, maxLineBytes = 100) {
  const splitter = new LineSplitter(maxLineBytes);
  const bytes = Buffer.from(text);
  const lines: [number, string | null][] = [];
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    for (const line of splitter.push(bytes.subarray(start, start + chunkBytes))) {
      lines.push([line.number, line.bytes?.toString() ?? null]);
    }
  }
  for (const line of splitter.end()) lines.push([line.number, line.bytes?.toString() ?? null]);
  return lines;
}

test.each([1, 2, 3, 7, 64, 1000])('lines are the same however the bytes come, here %d at a time', (chunkBytes) => {
  expect(linesOf(TEXT, chunkBytes)).toEqual([
    [1, 'first'],
    [2, ''],
    [3, 'third line\r'],
    [4, 'fourth: ü€😀'],
    [5, 'last without end'],
  ]);
});

test.each([1, 4, 100])('a line that is too long is told and not kept, %d bytes at a time', (chunkBytes) => {
  expect(linesOf(`ok\n${'x'.repeat(11)}\n${'y'.repeat(10)}\n${'z'.repeat(50)}`, chunkBytes, 10)).toEqual([
    [1, 'ok'],
    [2, null],
    [3, 'y'.repeat(10)],
    [4, null],
  ]);
});

test('a newline at the end begins no further line', () => {
  expect(linesOf('a\n', 1)).toEqual([[1, 'a']]);
  expect(linesOf('', 1)).toEqual([]);
});
