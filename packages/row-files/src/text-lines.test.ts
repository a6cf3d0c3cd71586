import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { type ColumnChoice, parseColumnMapping } from './column-mapping.js';
import { linesOfText } from './text-lines.js';

const MAX_LINE_BYTES = 1_000;

/** The lines of a file, or its error; checked to be the same for any chunks. */
async function linesOf(
  file: string | Buffer,
  columns: ColumnChoice = 'of-rows',
  maxLineBytes = MAX_LINE_BYTES,
): Promise<string[] | string> {
  const bytes = Buffer.from(file as string);
  const results = [1, 7, 1_000_000].map(async (size) => {
    async function* chunks() {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    }
    const parts: Buffer[] = [];
    try {
      for await (const part of linesOfText(chunks(), { columns, maxLineBytes })) parts.push(part);
    } catch (error) {
      if (!(error instanceof ProductError)) throw error;
      return `${error.code}: ${error.message}`;
    }
    return Buffer.concat(parts).toString().split('\n');
  });
  const [first, ...others] = await Promise.all(results);
  for (const other of others) expect(other).toEqual(first);
  return first ?? '';
}

const ROW = '{"prompt":"a","completion":"b"}';

test.each([
  ['with commas', 'prompt,completion\na,b\n'],
  ['with semicolons', 'prompt;completion\na;b\n'],
  ['with tabs', 'prompt\tcompletion\na\tb\n'],
  ['without a last line break', 'prompt,completion\na,b'],
  ['with CR LF', 'prompt,completion\r\na,b\r\n'],
  ['in quotes', '"prompt","completion"\n"a","b"\n'],
  ['after a byte order mark', '\ufeffprompt,completion\na,b\n'],
  ['with spaces around its names', 'prompt , completion\na,b\n'],
])('CSV %s becomes JSON, and its header an empty line', async (_name, text) => {
  expect(await linesOf(text)).toEqual(['', ROW, '']);
});

test('cells of CSV may have delimiters, quotes and line breaks, and are not trimmed', async () => {
  const text = 'text\n"a, ""b""\nc; 😀"\n" d "\n';
  const lines = (await linesOf(text)) as string[];
  expect(lines.filter((line) => line !== '').map((line) => JSON.parse(line))).toEqual([
    { text: 'a, "b"\nc; 😀' },
    { text: ' d ' },
  ]);
});

test('JSON of a cell stays as it is written, in one line', async () => {
  const text = 'label,features\n1,"[1.0,\r\n 2.50, 9007199254740993]"\n';
  expect(await linesOf(text)).toEqual(['', '{"label":1,"features":[1.0,  2.50, 9007199254740993]}', '']);
});

test('the number of a line is that of the row in a spreadsheet', async () => {
  expect(await linesOf('\n\nprompt,completion\n\na,b\n')).toEqual(['', '', '', '', ROW, '']);
});

test('cells of columns whose values are no text have JSON; an empty one is absent', async () => {
  const rows = ['messages,tools,id', '"[{""role"":""user""}]",,1', '"[1, ",,2'];
  expect(await linesOf(rows.join('\n'))).toEqual([
    '',
    '{"id":null,"messages":[{"role":"user"}]}',
    '{"messages":"[1, "}',
    '',
  ]);
  expect(await linesOf('f,l\n"[1,2]",0\n', parseColumnMapping('features:f,label:l'))).toEqual([
    '',
    '{"f":[1,2],"l":0}',
    '',
  ]);
  expect(await linesOf('prompt,completion,label\na,True,True\nb,c,false\n')).toEqual([
    '',
    '{"prompt":"a","completion":"True","label":true}',
    '{"prompt":"b","completion":"c","label":false}',
    '',
  ]);
});

test('a column of one name is CSV if rows have it, or the mapping', async () => {
  expect(await linesOf('text\na\n')).toEqual(['', '{"text":"a"}', '']);
  expect(await linesOf('body\na\n')).toEqual(['body', 'a', '']);
  expect(await linesOf('body\na\n', parseColumnMapping('text:body'))).toEqual(['', '{"body":"a"}', '']);
});

test("pandas' index, a column without a name, stays beside the others", async () => {
  expect(await linesOf(',prompt,completion\n0,a,b\n')).toEqual(['', '{"":null,"prompt":"a","completion":"b"}', '']);
});

test('only the first row of CSV names the columns that are not read', async () => {
  const name = 'x'.repeat(500);
  const lines = ['', `{"${name}":null,"text":"a"}`, '{"text":"b"}', '{"text":"c"}', ''];
  expect(await linesOf(`text,${name}\na,1\nb,2\nc,3\n`)).toEqual(lines);
});

test.each([[''], ['\n \n'], ['{"text":"a, b"}\n'], ['\ufeff{"text":"a"}'], ['  {"a":1},{'], ['null'], ['text: a']])(
  '%j passes as it is',
  async (text) => {
    expect(await linesOf(text)).toEqual(text.split('\n'));
  },
);

test('a JSON array has its elements in lines', async () => {
  expect(await linesOf(`[${ROW}]`)).toEqual([` ${ROW}`, '']);
});

test.each([
  [
    'a column of a row',
    'question,answer\na,b\n',
    'The CSV file has the columns "question", "answer", none of which a row has.',
  ],
  [
    'as many cells as its header',
    'prompt,completion\na,b\na,b,c\n',
    'Row 3 of the CSV file is wrong: The row has 3 cells, but the header has 2.',
  ],
  ['names of its own', 'prompt,prompt\n', 'Row 1 of the CSV file is wrong: Two columns have the name "prompt".'],
  ['an end of its quotes', 'prompt,completion\na,"b\n', 'Row 2 of the CSV file is wrong: A quote has no end.'],
  [
    'quotes around a cell with a quote',
    'prompt,completion\na,b "c"\n',
    'Row 2 of the CSV file is wrong: A cell has a quote, but does not begin with one.',
  ],
  [
    'short records',
    `prompt,completion\na,"${'b'.repeat(2_000)}\n`,
    'Row 2 of the CSV file is wrong: It is longer than 1000 bytes, the limit.',
  ],
  [
    'short records of short cells',
    `prompt,completion\n\na,"${'b'.repeat(900)}","${'c'.repeat(900)}"\n`,
    'Row 3 of the CSV file is wrong: It is longer than 1000 bytes, the limit.',
  ],
  [
    'a delimiter after a quote',
    'prompt,completion\na,"b"c\n',
    'Row 2 of the CSV file is wrong: There is something after the last quote',
  ],
  [
    'UTF-8',
    Buffer.from('prompt,completion\na,caf\xe9\n', 'latin1'),
    'Row 2 of the CSV file is wrong: The row is not valid UTF-8.',
  ],
])('CSV without %s is refused', async (_name, text, message) => {
  expect(await linesOf(text)).toContain(`invalid_dataset: ${message}`);
});

test('a record of CSV has a bounded number of cells', async () => {
  const wide = ','.repeat(20_000);
  const tooWide = (row: number) =>
    `invalid_dataset: Row ${row} of the CSV file is wrong: It has more than 10000 cells, the limit.`;
  const read = (file: string) => linesOf(file, 'of-rows', 1e6);
  expect(await read(`prompt,completion\r\na,b\r\n${wide}\r\n`)).toBe(tooWide(3));
  expect(await read(`prompt,completion\n"\n\n",b\n${wide}\n`)).toBe(tooWide(3));
  expect(await read(`prompt,completion\ra,b\r${wide}`)).toBe(tooWide(3));
  const long = [wide, ',\n'.repeat(20_000)].map((prompt) => ({ prompt, completion: 'b' }));
  const records = long.map(({ prompt }) => `"${prompt}",b\n`);
  const lines = (await read(`prompt,completion\n${records.join('')}`)) as string[];
  expect(lines.filter((line) => line !== '').map((line) => JSON.parse(line))).toEqual(long);
});

test('a long record of CSV is reported once, and its report can end the reading', async () => {
  const long = `${'b'.repeat(2 ** 20)}`;
  async function* chunks() {
    yield Buffer.from(`prompt,completion\na,b\na,${long}\na,${long}\n`);
  }
  const read = async (onLongRecord: () => void) => {
    let length = 0;
    for await (const line of linesOfText(chunks(), { columns: 'of-rows', maxLineBytes: 1e7, onLongRecord })) {
      length += line.length;
    }
    return length;
  };
  let reports = 0;
  expect(await read(() => reports++)).toBeGreaterThan(2 * long.length);
  expect(reports).toBe(1);
  const refusing = read(() => {
    throw new ProductError('service_unavailable', 'no more');
  });
  await expect(refusing).rejects.toMatchObject({ code: 'service_unavailable' });
});

test('every kind of line break ends a record of CSV', async () => {
  expect(await linesOf('prompt,completion\r\na,b\na,b\ra,b')).toEqual(['', ROW, ROW, ROW, '']);
});

test('a fault of CSV names its row', async () => {
  async function* chunks() {
    yield Buffer.from('prompt,completion\na\n');
  }
  const reading = (async () => {
    for await (const _ of linesOfText(chunks(), { columns: 'of-rows', maxLineBytes: 100 }));
  })();
  await expect(reading).rejects.toMatchObject({ details: [{ code: 'invalid_dataset', line: 2 }] });
});
