import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { areRowColumns, columnLike, columnsOfFile } from './file-columns.js';

const FIXTURES = path.join(import.meta.dirname, '../../../../row-files/src/fixtures');
const blob = (text: string) => new Blob([text]);

test.each([
  ['CSV', 'question,answer\n1,2\n', ['question', 'answer']],
  ['CSV with a mark and semicolons', '\ufeffquestion;answer\r\n1;2\r\n', ['question', 'answer']],
  ['CSV with quotes', '"a, ""b""","c\nd"\n1,2\n', ['a, "b"', 'c\nd']],
  ['TSV', 'id\tquestion\tanswer\n', ['id', 'question', 'answer']],
  ['JSONL', '{"question": "a } b", "answer": {"x": 1}}\n{"other": 1}\n', ['question', 'answer']],
  ['a JSON array', '[\n  {"question": "a", "answer": "b"},\n', ['question', 'answer']],
])('the columns of %s', async (_, text, columns) => {
  expect(await columnsOfFile(blob(text))).toEqual(columns);
});

test('the columns of a gzip file, also of a large one of which the head is read', async () => {
  const rows = Array.from({ length: 50_000 }, (_, index) => `${Math.sin(index)},${Math.cos(index)}`);
  const text = `question,answer\n${rows.join('\n')}\n`;
  expect(await columnsOfFile(new Blob([gzipSync(text)]))).toEqual(['question', 'answer']);
});

test('the columns of a Parquet file', async () => {
  const bytes = await readFile(path.join(FIXTURES, 'pairs-snappy.parquet'));
  const [row] = JSON.parse(await readFile(path.join(FIXTURES, 'pairs.json'), 'utf8'));
  expect(await columnsOfFile(new Blob([bytes]))).toEqual(expect.arrayContaining(Object.keys(row)));
});

test.each([
  ['nothing', ''],
  ['text of one column', 'hello\nworld\n'],
  ['JSON that has no end', '{"question": '],
  ['damaged Parquet', 'PAR1 and nothing else'],
])('%s has no columns', async (_, text) => {
  expect(await columnsOfFile(blob(text))).toBeNull();
});

test('columns of a format of rows are known', () => {
  const known = [['messages'], ['prompt', 'completion', 'id'], ['instruction', 'output'], ['text'], ['conversations']];
  for (const columns of known) expect(areRowColumns(columns), columns.join()).toBe(true);
  for (const columns of [['question', 'answer'], ['prompt', 'answer'], []]) expect(areRowColumns(columns)).toBe(false);
});

test('a column is guessed by a word in its name', () => {
  expect(columnLike(['id', 'The Question'], /question/i)).toBe('The Question');
  expect(columnLike(['id'], /question/i)).toBeUndefined();
});
