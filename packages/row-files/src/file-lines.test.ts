import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { ProductError } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { type FileOptions, linesOfFile } from './file-lines.js';
import { unzstd } from './unpack-zstd.js';

const MAX_BYTES = 100_000;
const OPTIONS: FileOptions = {
  columns: 'of-rows',
  maxBytes: MAX_BYTES,
  maxLineBytes: 1_000,
  unzstd,
  async *linesOfParquet() {
    yield Buffer.from('rows of Parquet');
  },
};
const ROWS = '{"text":"a"}\n{"text":"b"}\n';

async function* inChunks(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** The lines of a file, or its error; checked to be the same for any chunks. */
async function unpacked(file: Buffer | string): Promise<string> {
  const results = await Promise.all(
    [1, 300, 1_000_000].map(async (size) => {
      const parts: Buffer[] = [];
      try {
        for await (const part of linesOfFile(inChunks(Buffer.from(file as string), size), OPTIONS)) parts.push(part);
      } catch (error) {
        if (!(error instanceof ProductError)) throw error;
        return `${error.code}: ${error.message}`;
      }
      return Buffer.concat(parts).toString();
    }),
  );
  expect(new Set(results).size).toBe(1);
  return results[0] ?? '';
}

/** A file that begins with these bytes, as text in latin1, and has others behind them. */
const file = (head: string, length = 1_000) => Buffer.from(head.padEnd(length, '\x01'), 'latin1');
const tar = file(`rows.jsonl${'\0'.repeat(247)}ustar`);
const xlsx = file(`PK\x03\x04${'\0'.repeat(26)}[Content_Types].xml`);

test.each([[''], [ROWS], ['\ufeff{"text":"é"}'], ['no JSON']])('%j is read as it is', async (text) => {
  expect(await unpacked(text)).toBe(text);
});

test.each([
  ['a PDF', file('%PDF-1.7')],
  ['a tar archive', tar],
  ['a zip archive', file(`PK\x03\x04${'\0'.repeat(26)}rows.jsonl`)],
  ['an Office file', xlsx],
  ['a bzip2 file', file('BZh9')],
  ['an xz file', file('\xfd7zXZ\0')],
  ['text in UTF-16', Buffer.from('\ufeff{"text":"a"}', 'utf16le')],
  ['text in UTF-16', Buffer.from('{"text":"a"}', 'utf16le')],
  ['a gzip file of a tar archive', gzipSync(tar)],
  ['a gzip file of a gzip file', gzipSync(gzipSync(ROWS))],
  ['a gzip file of a Parquet file', gzipSync(file('PAR1'))],
])('%s is named', async (name, bytes) => {
  expect(await unpacked(bytes)).toMatch(new RegExp(`^invalid_dataset: This is ${name}\\. .+\\.$`));
});

test('a Parquet file is given to its reader', async () => {
  expect(await unpacked(file('PAR1'))).toBe('rows of Parquet');
});

test('CSV in a gzip file becomes JSON', async () => {
  expect(await unpacked(gzipSync('text\na\n'))).toBe('\n{"text":"a"}\n');
});

describe('a gzip file', () => {
  test('is unpacked, also one of several parts', async () => {
    expect(await unpacked(gzipSync(ROWS))).toBe(ROWS);
    expect(await unpacked(Buffer.concat([gzipSync(ROWS), gzipSync(ROWS)]))).toBe(ROWS + ROWS);
    expect(await unpacked(gzipSync(''))).toBe('');
  });

  test('a gzip file that is cut off or damaged is refused', async () => {
    const bytes = gzipSync(ROWS);
    expect(await unpacked(bytes.subarray(0, -4))).toMatch(/^invalid_dataset: .*damaged or incomplete/);
    bytes[bytes.length - 6]! ^= 1;
    expect(await unpacked(bytes)).toMatch(/^invalid_dataset: .*damaged or incomplete/);
  });

  test('is read up to the limit of what comes out of it', async () => {
    expect(await unpacked(gzipSync(Buffer.alloc(MAX_BYTES, ' ')))).toHaveLength(MAX_BYTES);
    const message = 'body_too_large: The unpacked file is larger than the limit of 100000 bytes.';
    expect(await unpacked(gzipSync(Buffer.alloc(50_000_000, ' ')))).toBe(message);
  });

  test('a gzip file whose sender disconnects throws the error of the sender, and is closed', async () => {
    let isClosed = false;
    async function* broken() {
      try {
        yield gzipSync(ROWS).subarray(0, 20);
        throw new ProductError('invalid_request', 'gone');
      } finally {
        isClosed = true;
      }
    }
    const reading = linesOfFile(broken(), OPTIONS).next();
    await expect(reading).rejects.toMatchObject({ code: 'invalid_request', message: 'gone' });
    expect(isClosed).toBe(true);
  });
});

test.each([
  ['gzip', gzipSync(Buffer.alloc(50_000, ROWS))],
  ['zstd', readFileSync(new URL('fixtures/level-3.zst', import.meta.url))],
])('a %s file with many times its bytes in it is refused', async (form, file) => {
  const growth = { times: 2, beyondBytes: 1_000 };
  const reading = linesOfFile(inChunks(file, 100), { ...OPTIONS, maxBytes: 1e9, growth });
  const all = async () => {
    for await (const _ of reading);
  };
  await expect(all()).rejects.toThrow(`This is a ${form} file with more than 2 times its bytes in it.`);
});
