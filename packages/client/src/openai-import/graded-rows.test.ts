import { expect, test } from 'vitest';
import { gradedRows } from './graded-rows.js';

async function graded(text: string, chunkBytes = 7): Promise<string[]> {
  const bytes = Buffer.from(text);
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  }
  const lines: string[] = [];
  for await (const line of gradedRows(chunks())) lines.push(line);
  return lines;
}

test('other fields of a row are the reference, with their numbers as they are written', async () => {
  const row = '{"messages": [{"role": "user", "content": "ä?"}], "price": 12.50, "n": 9007199254740993, "tools": []}';
  expect(await graded(row)).toEqual([
    '{"prompt":[{"role": "user", "content": "ä?"}],"reference":{"price":12.50,"n":9007199254740993},"tools":[]}\n',
  ]);
});

test('a row without other fields has an empty reference', async () => {
  expect(await graded('{"messages":[]}\n\n{"messages":[]}\n')).toEqual(Array(2).fill('{"prompt":[],"reference":{}}\n'));
});

test.each(['no JSON', '[]', 'null', '{"prompt": 1}', '{"messages": '])('the line %j stays as it is', async (line) => {
  expect(await graded(`${line}\n`)).toEqual([`${line}\n`]);
});

test('a line that no service takes is refused before it fills the memory', async () => {
  const text = 'x'.repeat(2 ** 20);
  async function* endless() {
    for (;;) yield Buffer.from(text);
  }
  const rows = gradedRows(endless());
  await expect(rows.next()).rejects.toMatchObject({ code: 'invalid_dataset' });
});
