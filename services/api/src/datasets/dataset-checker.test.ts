import { ProductError } from '@lorasmith/contracts';
import { parseColumnMapping } from '@lorasmith/row-files';
import { expect, test } from 'vitest';
import { DatasetChecker, MAX_REMEMBERED_ROWS, SeenRows } from './dataset-checker.js';

const LIMITS = { maxBytes: 1_000_000, maxLineBytes: 10_000, maxRows: 50 };

/** The message for a file, checked to be the same for any chunks. */
function messageOf(text: string, limits = LIMITS): string {
  const messages = [1, 7, 1_000_000].map((chunkBytes) => {
    const checker = new DatasetChecker(limits);
    const bytes = Buffer.from(text);
    try {
      for (let i = 0; i < bytes.length; i += chunkBytes) checker.push(bytes.subarray(i, i + chunkBytes));
      checker.end();
      return `${checker.finish().rows} rows`;
    } catch (error) {
      if (!(error instanceof ProductError)) throw error;
      return `${error.details.length} faults: ${error.message}`;
    }
  });
  expect(new Set(messages).size).toBe(1);
  return messages[0] ?? '';
}

const wrongMessages = `{"messages":[${Array.from({ length: 9 }, () => 0)}]}\n`;

test.each([
  ['one', 'x', '1 faults: One line is wrong. Nothing was stored.'],
  ['the maximum of listed faults', 'x\n'.repeat(100), '100 faults: 100 lines are wrong. Nothing was stored.'],
  [
    'more',
    `\n${'x\n'.repeat(101)}`,
    '100 faults: At least 100 lines are wrong; checking stopped after line 101. Nothing was stored.',
  ],
  [
    'more, without a last line break',
    `${'x\n'.repeat(100)}x`,
    '100 faults: At least 100 lines are wrong; checking stopped after line 100. Nothing was stored.',
  ],
  [
    'several in a line',
    wrongMessages.repeat(13),
    '100 faults: 13 lines are wrong; the first 100 of 104 faults are listed. Nothing was stored.',
  ],
  [
    'several in a line, and more',
    wrongMessages.repeat(14),
    '100 faults: At least 13 lines are wrong; the first 100 of 104 faults are listed; checking stopped after line 13. Nothing was stored.',
  ],
  [
    'a file that is not JSONL',
    '{\n"text": 1\n}\n',
    '1 faults: At least one line is wrong; checking stopped after line 1. Nothing was stored.',
  ],
  ['one row beyond the limit', '{"text":"a"}\n'.repeat(51), '1 faults: One line is wrong. Nothing was stored.'],
  [
    'several rows beyond the limit',
    '{"text":"a"}\n'.repeat(53),
    '1 faults: At least one line is wrong; checking stopped after line 51. Nothing was stored.',
  ],
])('the message is correct for %s', (_name, text, message) => {
  expect(messageOf(text)).toBe(message);
});

test.each([
  ['a byte order mark in the first line', '\ufeff{"text":"a"}', '1 rows'],
  ['two of them', '\ufeff\ufeff{"text":"a"}', '1 faults: One line is wrong. Nothing was stored.'],
  ['one in the second line', '{"text":"a"}\n\ufeff{"text":"b"}', '1 faults: One line is wrong. Nothing was stored.'],
  ['one alone', '\ufeff\n{"text":"a"}', '1 rows'],
  ['blank lines of every kind', '\n \t\v\f\r\n\u3000\n\u00a0\n{"text":"a"}\n\n', '1 rows'],
  ['a zero byte alone', '\0\n{"text":"a"}', '1 faults: One line is wrong. Nothing was stored.'],
])('lines with %s', (_name, text, message) => {
  expect(messageOf(text)).toBe(message);
});

test('a repeated row is found whatever white space is around it, after a byte order mark, too', () => {
  const checker = new DatasetChecker(LIMITS);
  checker.push(Buffer.from('\ufeff {"text":"a"}\n{"text": "a"}\n{"text":"é"}\n\t{"text":"a"} \r\n{"text":"é"}'));
  checker.end();
  expect(checker.finish().warnings).toMatchObject([
    { code: 'duplicate_rows', line: 4, message: expect.stringMatching(/^2 rows/) },
  ]);
});

/** The stored text of a file, checked to be the same for any chunks, and its summary. */
function storedOf(text: string) {
  const results = [1, 7, 1_000_000].map((chunkBytes) => {
    const checker = new DatasetChecker(LIMITS);
    const bytes = Buffer.from(text);
    const stored: Buffer[] = [];
    for (let i = 0; i < bytes.length; i += chunkBytes) stored.push(checker.push(bytes.subarray(i, i + chunkBytes)));
    stored.push(checker.end());
    return { stored: Buffer.concat(stored).toString(), ...checker.finish() };
  });
  for (const result of results) expect(result).toEqual(results[0]);
  return results[0]!;
}

test.each([
  ['{"text":"a"}'],
  ['{"text":"a"}\n'],
  ['\n\n{"text":"a"}\r\n\n \t\n{"text" : "b"}\n\n\n'],
  ['\ufeff{"text":"é"}\n\n{"text":"b"}\n '],
])('%j is stored as it is', (text) => {
  expect(storedOf(text)).toMatchObject({ stored: text, warnings: [] });
});

test('numbers of tools keep their form where a column is left out', () => {
  const call = '{"function":{"name":"f","arguments":{"price":50.0,"count":2}}}';
  const rest = `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[${call}]}]}`;
  const checker = new DatasetChecker(LIMITS);
  expect(`${checker.push(Buffer.from(`{"id":1.0,${rest}\n`))}`).toBe(`{${rest}\n`);
});

test('numbers that graders read keep their text where a column is left out or has another name', () => {
  const reference = '{"price":12.50,"id":9007199254740993,"huge":[1e400, 1.0]}';
  expect(storedOf(`{"id":1,"prompt":"a","reference": ${reference}}\n`).stored).toBe(
    `{"prompt":"a","reference":${reference}}\n`,
  );
  const checker = new DatasetChecker(LIMITS, parseColumnMapping('prompt:question,reference:answer'));
  const row = `{"reference":1,"question":"a","answer":${reference}}\n`;
  expect(`${checker.push(Buffer.from(row))}`).toBe(`{"prompt":"a","reference":${reference}}\n`);
});

test('columns that are not used are left out of their rows, and named once', () => {
  const { stored, warnings } = storedOf('{"text": "a"}\n\n{"text":"b","id":1}\n{"id":2,"source":"x","text":"c"}');
  expect(stored).toBe('{"text": "a"}\n\n{"text":"b"}\n{"text":"c"}');
  const message = 'Columns that are not used were left out: "id", "source".';
  expect(warnings).toEqual([{ code: 'columns_left_out', message, line: 3 }]);
});

test('twenty of many unused columns are named', () => {
  const columns = Object.fromEntries(Array.from({ length: 21 }, (_, index) => [`c${index}`, index]));
  const { warnings } = storedOf(JSON.stringify({ text: 'a', ...columns }));
  expect(warnings[0]?.message).toMatch(/: "c0", .*"c19" and others\.$/);
});

test('a column with a long name is named once, by its beginning, with its first line', () => {
  const row = JSON.stringify({ text: 'a', ['c'.repeat(100)]: 1 });
  const many = Object.fromEntries(Array.from({ length: 19 }, (_, index) => [`c${index}`, index]));
  const { warnings } = storedOf(`${row}\n${row.replace('"a"', '"b"')}\n${JSON.stringify({ text: 'c', ...many })}\n`);
  expect(warnings).toMatchObject([{ line: 1, message: expect.stringMatching(/: "c{64}", "c0", .*"c18"\.$/) }]);
  expect(storedOf(`${row}\n${JSON.stringify({ text: 'c', ...many })}\n${row}`).warnings[0]).toMatchObject({
    message: expect.not.stringContaining('others'),
  });
});

test('conversations of ShareGPT become messages', () => {
  const turns = '[{"from":"human","value":"a","id":7},{"from":"gpt","value":"b"}]';
  const { stored, format, warnings } = storedOf(`{"id":"x","conversations":${turns}}\n`);
  expect(stored).toBe('{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n');
  expect(format).toBe('messages');
  expect(warnings).toEqual([
    { code: 'rows_mapped', message: 'ShareGPT\'s "conversations" became "messages".', line: 1 },
    {
      code: 'columns_left_out',
      message: 'Columns that are not used were left out: "id", "conversations[].id".',
      line: 1,
    },
  ]);
});

const bytes = (row: string | number) => Buffer.from(String(row));

test('recognizes repeated rows, and no others', () => {
  const rows = new SeenRows();
  for (let row = 0; row < 30_000; row++) expect(rows.seen(bytes(`row ${row}`))).toBe(false);
  for (let row = 0; row < 30_000; row += 7) expect(rows.seen(bytes(`row ${row}`))).toBe(true);
  expect(rows.seen(bytes('row -1'))).toBe(false);
});

test('stores rows up to its limit and ignores further ones', () => {
  const rows = new SeenRows();
  for (let row = 0; row < MAX_REMEMBERED_ROWS + 10; row++) rows.seen(bytes(row));
  expect(rows.seen(bytes(0))).toBe(true);
  expect(rows.seen(bytes(MAX_REMEMBERED_ROWS - 1))).toBe(true);
  expect(rows.seen(bytes(MAX_REMEMBERED_ROWS + 5))).toBe(false);
});
