import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { linesOfArray } from './array-lines.js';

/** The lines of a file without the white space around them, or its error; checked to be the same for any chunks. */
async function linesOf(text: string): Promise<string[] | string> {
  const bytes = Buffer.from(text);
  const results = [1, 7, 1_000_000].map(async (size) => {
    async function* chunks() {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    }
    const parts: Buffer[] = [];
    try {
      for await (const part of linesOfArray(chunks())) parts.push(part);
    } catch (error) {
      if (!(error instanceof ProductError)) throw error;
      return `${error.code}: ${error.message}`;
    }
    return Buffer.concat(parts)
      .toString()
      .split('\n')
      .map((line) => line.trim());
  });
  const [first, ...others] = await Promise.all(results);
  for (const other of others) expect(other).toEqual(first);
  return first ?? '';
}

const rows = [
  { text: 'a, [b] {c} "d" \\ \n é 😀', list: [[1, { x: [] }], 'y]'] },
  { text: '\\"' },
  { text: '{"text":"inner"}', none: null, more: { deep: [{ deeper: [2] }] } },
];

test.each([
  ['in one line', JSON.stringify(rows)],
  ['in many lines', `\r\n${JSON.stringify(rows, null, 2).replaceAll('\n', '\r\n')}\n`],
  ['with tabs', JSON.stringify(rows, null, '\t')],
  ['after a byte order mark', `\ufeff ${JSON.stringify(rows)}`],
])('an array %s has its elements in lines', async (_name, text) => {
  const lines = (await linesOf(text)) as string[];
  expect(lines.filter((line) => line !== '').map((line) => JSON.parse(line.replace('\ufeff', '')))).toEqual(rows);
});

test.each([[''], ['\n \n'], ['{"text":"[a, b]"}\n{"text": "c"}\n'], ['\ufeff{"text":"a"}'], ['text']])(
  '%j passes as it is',
  async (text) => {
    expect(await linesOf(text)).toEqual(text.split('\n').map((line) => line.trim()));
  },
);

test.each([
  ['no comma', '[{"a":1} {"b":2}]', ['{"a":1} {"b":2}', '']],
  ['another bracket', '[{"a":1], {"b":2}]', ['{"a":1]', '{"b":2}', '']],
  ['an object that is closed twice', '[{"a":1}}, 7]', ['{"a":1}}', '7', '']],
  ['a line break in a text', '[{"a":"b\nc"}, 7]', ['{"a":"b\u0001c"}', '7', '']],
])('an element with %s is a line of its own, which is not JSON', async (_name, text, lines) => {
  expect(await linesOf(text)).toEqual(lines);
});

test('an array without an end, and one with something behind it, are refused', async () => {
  for (const text of ['[', '[{"a":1}', '[{"a":"]']) {
    expect(await linesOf(text)).toBe('invalid_dataset: The JSON array has no end: the file is incomplete.');
  }
  for (const text of ['[{"a":1}]]', '[]\n{"a":1}']) {
    expect(await linesOf(text)).toBe('invalid_dataset: There is something after the end of the JSON array.');
  }
});
