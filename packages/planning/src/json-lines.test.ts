import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { WholeFloat } from '@lorasmith/model-folder';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { LineSplitter, MAX_LINE_BYTES, parseLine, type RawRow, readLines } from './json-lines.js';

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

async function all(path: string): Promise<RawRow[]> {
  const rows: RawRow[] = [];
  for await (const lines of readLines(path)) rows.push(...lines.map(parseLine).filter((row) => row !== null));
  return rows;
}

describe('readLines and parseLine', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'read-lines-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function read(bytes: string | Uint8Array): Promise<RawRow[]> {
    await writeFile(join(folder, 'rows'), bytes);
    return await all(join(folder, 'rows'));
  }

  it('numbers lines from 1, blank ones too, with any line end', async () => {
    expect(await read('\ufeff{"a":1}\r\n\n  \n{"b":"é"}')).toEqual([
      { line: 1, fault: null, value: { a: 1 } },
      { line: 4, fault: null, value: { b: 'é' } },
    ]);
    expect(await read('')).toEqual([]);
  });

  it('keeps floats without a fraction in tools and their calls, which templates print, and nowhere else', async () => {
    const call = '{"function": {"name": "f", "arguments": {"a": [1.0, 2, 1.5]}}}';
    const [row] = await read(
      `{"messages": [{"weight": 1.0, "tool_calls": [${call}]}], "tools": [{"default": 2e0}], "score": 3.0}`,
    );
    expect(row).toEqual({
      line: 1,
      fault: null,
      value: {
        messages: [
          { weight: 1, tool_calls: [{ function: { name: 'f', arguments: { a: [new WholeFloat(1), 2, 1.5] } } }] },
        ],
        tools: [{ default: new WholeFloat(2) }],
        score: 3,
      },
    });
  });

  it('reads lines that are longer than what the file system gives at once', async () => {
    const texts = [300_000, 10, 70_000].map((length, index) => String(index).repeat(length));
    const rows = await read(texts.map((text) => JSON.stringify({ text })).join('\n'));
    expect(rows).toEqual(texts.map((text, index) => ({ line: index + 1, fault: null, value: { text } })));
  });

  it('reports what is wrong with a line and continues', async () => {
    const rows = await read(Buffer.concat([Buffer.from('{"a":\n'), Buffer.of(0xff, 0x0a), Buffer.from('\ufeff1\n2')]));
    expect(rows).toMatchObject([
      { line: 1, fault: { message: expect.stringContaining('JSON') } },
      { line: 2, fault: { message: expect.stringContaining('UTF-8') } },
      { line: 3, fault: { message: expect.stringContaining('JSON') } },
      { line: 4, value: 2 },
    ]);
  });

  it('does not keep a line without an end', async () => {
    const rows = await read(Buffer.concat([Buffer.alloc(MAX_LINE_BYTES + 1, 0x20), Buffer.from('\n1')]));
    expect(rows).toMatchObject([
      { line: 1, fault: { message: expect.stringContaining('longer') } },
      { line: 2, value: 1 },
    ]);
  });

  it('reads only the lines after one, with their numbers, wherever blocks of the file end', async () => {
    const path = join(folder, 'rows');
    const texts = Array.from({ length: 50 }, (_, index) => (index % 7 === 3 ? '' : `"${'x'.repeat(index * 997)}"`));
    await writeFile(path, texts.join('\n'));
    const numbersAfter = async (after: number) => {
      const found: number[] = [];
      for await (const lines of readLines(path, { after })) found.push(...lines.map(({ number }) => number));
      return found;
    };
    const all = await numbersAfter(0);
    expect(all).toHaveLength(43);
    for (const after of [1, 3, 4, 25, 49])
      expect(await numbersAfter(after)).toEqual(all.filter((line) => line > after));
    for (const after of [50, 51, 1_000]) expect(await numbersAfter(after)).toEqual([]);
    const missing = readLines(join(folder, 'none'), { after: 3 });
    await expect(missing.next()).rejects.toMatchObject({ code: 'dataset_not_found' });
  });

  it('reports that the file is missing', async () => {
    await expect(all(join(folder, 'none'))).rejects.toMatchObject({ code: 'dataset_not_found' });
  });
});
