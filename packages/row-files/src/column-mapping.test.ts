import type { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { columnsToRead, MAX_MAPPING_CHARACTERS, mapColumns, parseColumnMapping } from './column-mapping.js';

test.each([
  ['prompt:question,completion:answer', { prompt: 'question', completion: 'answer' }],
  ['prompt,completion:answer', { prompt: 'prompt', completion: 'answer' }],
  ['prompt:Question, long,completion:the: answer', { prompt: 'Question, long', completion: 'the: answer' }],
  ['text:', { text: '' }],
  ['conversations:turns, system:rôle', { conversations: 'turns, system:rôle' }],
])('%j is a mapping', (text, mapping) => {
  expect(Object.fromEntries(parseColumnMapping(text))).toEqual(mapping);
});

test.each([
  ['', 'no column ""'],
  ['question:prompt', 'no column "question", but messages, '],
  ['prompt:a,answer:b', 'no column "answer"'],
  ['prompt:a,prompt:b', 'mapped twice'],
  [`text:${'x'.repeat(MAX_MAPPING_CHARACTERS)}`, 'at most'],
])('%j is none', (text, part) => {
  const message = expect.stringContaining(part);
  expect(() => parseColumnMapping(text)).toThrow(
    expect.objectContaining({ code: 'invalid_request', param: 'columns', message }),
  );
});

test('a key of every name is mapped and left out', () => {
  const row = JSON.parse('{"__proto__": "a", "constructor": "b", "text": "c"}');
  const mapped = mapColumns(row, parseColumnMapping('prompt:__proto__,completion:constructor'));
  expect(mapped).toEqual({
    row: { prompt: 'a', completion: 'b' },
    mapping: '"__proto__" became "prompt", "constructor" became "completion"',
    leftOut: ['text'],
  });
  expect(mapColumns({}, parseColumnMapping('text:constructor'))).toMatchObject([{ param: 'constructor' }]);
});

test('of a table the columns of the mapping are read, or those of rows, or all', () => {
  const names = ['id', 'text', 'prompt', 'kto_tag'];
  expect(columnsToRead(names, parseColumnMapping('prompt:text,completion:text'), 'CSV')).toEqual(['text']);
  expect(columnsToRead(names, 'of-rows', 'CSV')).toEqual(['text', 'prompt', 'kto_tag']);
  expect(columnsToRead(['x'], 'all', 'CSV')).toEqual(['x']);
});

test('a table without a column that is needed is refused, and its columns are listed', () => {
  const refusal = (names: string[], choice: Parameters<typeof columnsToRead>[1]) => {
    try {
      return columnsToRead(names, choice, 'CSV');
    } catch (error) {
      return (error as ProductError).message;
    }
  };
  expect(refusal(['question', 'answer'], 'of-rows')).toBe(
    'The CSV file has the columns "question", "answer", none of which a row has. Say what they are, such as ' +
      'columns=prompt:NAME,completion:NAME or columns=text:NAME.',
  );
  expect(refusal(['a'], parseColumnMapping('text:b'))).toBe(
    'The CSV file has no column "b", which the mapping names. It has "a".',
  );
  const many = Array.from({ length: 21 }, (_, index) => `c${index}`.padEnd(100, 'x'));
  expect(refusal(many, 'of-rows')).toContain(' and others, none');
});
