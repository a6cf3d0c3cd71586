import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ProductError } from '@lorasmith/contracts';
import { type ColumnSource, parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ColumnChoice, parseColumnMapping } from './column-mapping.js';
import { linesOfParquet } from './parquet-lines.js';

const FIXTURES = fileURLToPath(new URL('fixtures', import.meta.url));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-parquet-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The rows of a file, or its error. */
async function rowsOf(location: string, columns?: ColumnChoice, maxRows?: number): Promise<unknown[] | string> {
  const lines = await linesOf(location, columns, maxRows);
  return typeof lines === 'string' ? lines : lines.map((line) => JSON.parse(line) as unknown);
}

/** The lines of a file, or its error. */
async function linesOf(
  location: string,
  columns: ColumnChoice = 'of-rows',
  maxRows = 1_000,
): Promise<string[] | string> {
  const file = await open(location);
  try {
    const lines: string[] = [];
    for await (const line of linesOfParquet(file, { columns, maxRows })) {
      expect(line.indexOf(0x0a)).toBe(line.length - 1);
      lines.push(line.toString().trimEnd());
    }
    return lines;
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    return `${error.code}: ${error.message}`;
  } finally {
    await file.close();
  }
}

async function written(bytes: Uint8Array): Promise<string> {
  const location = path.join(folder, 'file.parquet');
  await writeFile(location, bytes);
  return location;
}

const table = (columns: Record<string, unknown[]>) => {
  const columnData = Object.entries(columns).map(([name, data]) => ({ name, data }) as ColumnSource);
  return written(new Uint8Array(parquetWriteBuffer({ columnData })));
};
const fixture = (name: string) => path.join(FIXTURES, name);
const expected = async (name: string) => JSON.parse(await readFile(fixture(name), 'utf8')) as Record<string, unknown>[];

test.each(['snappy', 'gzip', 'brotli', 'zstd', 'lz4'])(
  'a column without values is read, compressed with %s',
  async (name) => {
    expect(await rowsOf(fixture(`empty-${name}.parquet`))).toEqual([{ prompt: 'a', completion: 'b' }]);
  },
);

test.each(['none', 'snappy', 'gzip', 'brotli', 'zstd', 'lz4', 'v2', 'delta', 'pandas', 'polars'])(
  'the rows of pairs-%s are those that were written',
  async (name) => {
    const rows = await expected('pairs.json');
    const location = fixture(`pairs-${name}.parquet`);
    expect(await rowsOf(location, 'all')).toEqual(rows);
    const [first, ...others] = rows.map(({ prompt, completion }) => ({ prompt, completion }));
    expect(await rowsOf(location)).toEqual([{ id: null, ...first }, ...others]);
    const mapping = parseColumnMapping('text:prompt');
    const texts = rows.map(({ prompt }) => ({ prompt }));
    expect(await rowsOf(location, mapping)).toEqual([{ id: null, completion: null, ...texts[0] }, ...texts.slice(1)]);
  },
);

test('conversations are lists, and what is null in them is absent', async () => {
  const [first] = (await rowsOf(fixture('chats.parquet'), 'all')) as Record<string, unknown>[];
  expect(first).toEqual({
    messages: [
      { role: 'user', content: 'Weather in place 0?' },
      { role: 'assistant', tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } }] },
    ],
    source: 'web',
  });
  expect(await rowsOf(fixture('chats.parquet'), 'all')).toHaveLength(20);
});

test('numbers, dates and binary values are JSON', async () => {
  const date = new Date('2026-01-02T03:04:05Z');
  const location = await table({
    text: ['a', 'b'],
    label: [1n, 2n],
    at: [date, date],
    bytes: [Uint8Array.of(0xff), Uint8Array.of(0x41)],
  });
  expect(await rowsOf(location, 'all')).toEqual([
    { text: 'a', label: 1, at: date.toISOString(), bytes: [0xff] },
    { text: 'b', label: 2, at: date.toISOString(), bytes: 'A' },
  ]);
});

/** The members of each row of values.parquet. */
const VALUES = [
  [
    '"int64":9007199254740993,"uint64":18446744073709551615,"uint32":4294967295,"decimal":12.50',
    `"decimal256":1${'0'.repeat(75)},"float":0.1,"half":0.1,"double":0.1`,
    '"milliseconds":"2026-01-02T03:04:05.123Z","microseconds":"2026-01-02T03:04:05.123456Z"',
    '"nanoseconds":"1970-01-01T00:00:00.000000001Z","local":"2026-01-02T03:04:05.123456"',
    '"date":"2026-01-02","time":"03:04:05.123456","bool":true,"nested":[{"price":1.0,"weight":0.3}]',
    '"map":{"a":2.50},"json":{"a": 1.0,  "b": [1e400]}',
  ],
  [
    '"int64":-9223372036854775808,"uint64":0,"uint32":0,"decimal":-0.05,"decimal256":-1,"float":33554432',
    '"half":65504,"double":12,"microseconds":"1969-12-31T23:59:59.999999Z"',
    '"nanoseconds":"1969-12-31T23:59:59.999999999Z","date":"0001-01-01","time":"00:00:00.000000","bool":false',
    '"nested":[null],"map":{},"json":null',
  ],
  ['"decimal":12345678901234567.89,"float":1e-45,"half":-0,"double":-1e+300,"nested":[]'],
];

test.each(['values', 'values-plain'])(
  'numbers and times of %s have every digit that they have in the file',
  async (name) => {
    expect(await linesOf(fixture(`${name}.parquet`), 'all')).toEqual(VALUES.map((members) => `{${members.join(',')}}`));
  },
);

test('times of the older form have their nanoseconds', async () => {
  expect(await linesOf(fixture('int96.parquet'), 'all')).toEqual(['{"at":"2026-01-02T03:04:05.123456000Z"}', '{}']);
});

test.each([
  ['nan', 'NaN in row 1'],
  ['infinite', 'Infinity in row 1'],
  ['keys', 'a map whose keys are of the type FLOAT'],
])('a column %s without an exact form in JSON is refused by its name, if it is read', async (name, what) => {
  expect(await rowsOf(fixture('inexact.parquet'), parseColumnMapping(`text,reference:${name}`))).toBe(
    `invalid_dataset: The Parquet file cannot be read. Its column "${name}" has ${what}, which has no exact form in JSON. ` +
      'Write the column as text, or leave it out.',
  );
  expect(await rowsOf(fixture('inexact.parquet'))).toMatchObject([{ text: 'a' }]);
});

test('a column whose type and values contradict each other is refused', async () => {
  const location = await written(
    new Uint8Array(
      parquetWriteBuffer({
        schema: [
          { name: 'root', num_children: 1 },
          { name: 'text', type: 'DOUBLE', converted_type: 'DATE', repetition_type: 'REQUIRED' },
        ],
        columnData: [{ name: 'text', data: [1.5] }],
      }),
    ),
  );
  expect(await rowsOf(location)).toContain('damaged or incomplete');
});

test('columns with names of Object.prototype are columns', async () => {
  const location = await table({ constructor: ['a'], text: ['b'] });
  expect(await rowsOf(location, parseColumnMapping('prompt:constructor,completion:text'))).toEqual([
    { constructor: 'a', text: 'b' },
  ]);
});

test('a file without a column of a row, or with too many rows, is refused', async () => {
  expect(await rowsOf(await table({ question: ['a'], answer: ['b'] }))).toContain(
    'invalid_dataset: The Parquet file has the columns "question", "answer", none of which a row has.',
  );
  expect(await rowsOf(fixture('pairs-none.parquet'), 'of-rows', 299)).toContain('more than 299 rows');
});

test('a file with a codec that is not read is refused by its name', async () => {
  const columnData = [{ name: 'text', data: ['a'] }];
  const bytes = parquetWriteBuffer({ columnData, codec: 'LZO', compressors: { LZO: (page: Uint8Array) => page } });
  expect(await rowsOf(await written(new Uint8Array(bytes)))).toBe(
    'invalid_dataset: The Parquet file cannot be read. It is compressed with LZO, which is not read. ' +
      'Write it with compression="zstd", or send JSONL.',
  );
});

test('a file that is cut off or damaged is refused', async () => {
  const bytes = await readFile(fixture('pairs-snappy.parquet'));
  for (const length of [0, 4, 8, 100, bytes.length - 1]) {
    expect(await rowsOf(await written(bytes.subarray(0, length)))).toContain('damaged or incomplete');
  }
  const page = Buffer.from(bytes);
  page.fill(0xff, 2_500, 2_700);
  expect(await rowsOf(await written(page))).toContain('damaged or incomplete');
});
