import { expect, test } from 'vitest';
import { usedColumns } from './used-columns.js';

const messages = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
];

test.each([
  [{ text: 'a', id: 1, source: 'b' }, { text: 'a' }, ['id', 'source']],
  [{ prompt: 'a', completion: 'b', meta: {} }, { prompt: 'a', completion: 'b' }, ['meta']],
  [{ instruction: 'a', input: 'b', output: 'c', text: 'd' }, { instruction: 'a', input: 'b', output: 'c' }, ['text']],
  [{ messages, tools: [], prompt_id: 'x' }, { messages, tools: [] }, ['prompt_id']],
  [{ features: [1], label: 0, name: 'x' }, { features: [1], label: 0 }, ['name']],
  [JSON.parse('{"text":"a","__proto__":{"text":"b"}}'), { text: 'a' }, ['__proto__']],
])('of %j', (row, used, leftOut) => {
  expect(usedColumns(row)).toEqual({ row: used, leftOut });
});

test.each([
  ['that are all used', { text: 'a' }],
  ['of which one may have another name', { prompt: 'a', answer: 'b' }],
  ['of which one is refused by name', { messages, functions: [{ name: 'f' }] }],
  ['of no known format', { a: 1 }],
  ['that are none', [1]],
])('a row stays as it is with columns %s', (_name, row) => {
  expect(usedColumns(row)).toEqual({ row, leftOut: [] });
});
