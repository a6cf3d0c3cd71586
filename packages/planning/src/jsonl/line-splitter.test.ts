import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { LineSplitter } from './line-splitter.js';

const TEXT = 'first\n\nthird line\r\nfourth: ü€😀\nlast without end';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function heldBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

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
    [3, 'third line\r'],
    [4, 'fourth: ü€😀'],
    [5, 'last without end'],
  ]);
});

test.each([1, 4, 100])('a line that is too long is reported and not held, %d bytes at a time', (chunkBytes) => {
  expect(linesOf(`ok\n${'x'.repeat(11)}\n${'y'.repeat(10)}\n${'z'.repeat(50)}`, chunkBytes, 10)).toEqual([
    [1, 'ok'],
    [2, null],
    [3, 'y'.repeat(10)],
    [4, null],
  ]);
});

test('empty lines are counted and not reported', () => {
  for (const chunkBytes of [1, 2, 100]) {
    expect(linesOf('\n\na\n\n\nb\n\n', chunkBytes)).toEqual([
      [3, 'a'],
      [6, 'b'],
    ]);
  }
});

test('an unfinished line of tiny chunks takes little more than its bytes', () => {
  const splitter = new LineSplitter(1_000_000);
  const before = heldBytes();
  // Each a buffer of its own, as they come from a socket.
  for (let i = 0; i < 100_000; i++) splitter.push(Buffer.alloc(1, 'a')).next();
  expect(heldBytes() - before).toBeLessThan(1_000_000);
  const [line] = splitter.push(Buffer.from('\n'));
  expect(line?.bytes?.toString()).toBe('a'.repeat(100_000));
});

test('a newline at the end does not start another line', () => {
  expect(linesOf('a\n', 1)).toEqual([[1, 'a']]);
  expect(linesOf('', 1)).toEqual([]);
});
