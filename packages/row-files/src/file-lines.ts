import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { bounded, ProductError } from '@lorasmith/contracts';
import { withHead } from './chunk-head.js';
import { linesOfText, type TextOptions } from './text-lines.js';

/** Reads a file that is expensive to read. */
export type FileReader = (chunks: AsyncIterable<Buffer>) => AsyncIterable<Buffer>;

export interface UnpackOptions {
  /** The most bytes that come out of a compressed file. */
  maxBytes: number;
  /** The most bytes that come out of a file for each of its own, beyond some that always may. @defaultValue no limit */
  growth?: { times: number; beyondBytes: number };
  /** The content of a gzip file. @defaultValue it is unpacked as it comes */
  ungzip?: FileReader;
  /** The content of a zstd file. */
  unzstd: FileReader;
  /** The rows of a Parquet file as JSON, one line each. */
  linesOfParquet: FileReader;
}

export type FileOptions = UnpackOptions & TextOptions;

/**
 * The rows of a file as JSON, one line each, whatever its form is. JSONL passes as it is, and so does what has no form that is known.
 *
 * The lines throw ProductError `invalid_dataset` for a file of another kind and for a damaged one; `body_too_large` where more than
 * `maxBytes` come out of it; errors of `chunks` and of the readers.
 */
export function linesOfFile(chunks: AsyncIterable<Buffer>, options: FileOptions): AsyncGenerator<Buffer> {
  return linesOfText(textOfFile(chunks, options), options);
}

/** The text of a file: unpacked, and that of Parquet as JSONL. It throws as {@link linesOfFile}. */
export async function* textOfFile(chunks: AsyncIterable<Buffer>, options: UnpackOptions): AsyncGenerator<Buffer> {
  const file = await headed(chunks);
  if (file.kind === undefined) return yield* file.chunks;
  if (file.kind.form === null) throw notTaken(file.kind.name, file.kind);
  const { form, name } = file.kind;
  let packedBytes = 0;
  async function* packed(): AsyncGenerator<Buffer> {
    for await (const chunk of file.chunks) {
      packedBytes += chunk.length;
      yield chunk;
    }
  }
  const { maxBytes, growth, ungzip = gunzip, unzstd, linesOfParquet } = options;
  const unpack = { gzip: ungzip, zstd: unzstd, parquet: linesOfParquet }[form];
  const unpacked = bounded(unpack(packed()), maxBytes, 'unpacked file');
  const content = growth === undefined ? unpacked : growing(unpacked, name, growth, () => packedBytes);
  if (form === 'parquet') return yield* content;
  const text = await headed(content);
  if (text.kind !== undefined) {
    await close(text.chunks);
    throw notTaken(`${name} of ${text.kind.name}`, text.kind);
  }
  yield* text.chunks;
}

/** Passes chunks on while they are not many more than those that they come from. */
async function* growing(
  chunks: AsyncIterable<Buffer>,
  name: string,
  { times, beyondBytes }: NonNullable<UnpackOptions['growth']>,
  packedBytes: () => number,
): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > beyondBytes + times * packedBytes()) {
      const message = `This is ${name} with more than ${times} times its bytes in it. Send its rows as JSONL.`;
      throw new ProductError('invalid_dataset', message);
    }
    yield chunk;
  }
}

/** Ends a stream that may not have begun, and with it what it reads from. */
async function close(chunks: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of chunks) return;
}

async function headed(
  file: AsyncIterable<Buffer>,
): Promise<{ kind: FileKind | undefined; chunks: AsyncGenerator<Buffer> }> {
  const { head, chunks } = await withHead(file, ({ length }) => length >= FILE_KIND_BYTES);
  return { kind: fileKindOf(head), chunks };
}

function notTaken(what: string, { advice }: FileKind): ProductError {
  return new ProductError('invalid_dataset', `This is ${what}. ${advice}`);
}

/** A kind of file that its first bytes give away. */
export interface FileKind {
  /** The kind with its article: "a PDF". */
  name: string;
  /** The form in which its rows are taken; null: they are not. */
  form: 'gzip' | 'zstd' | 'parquet' | null;
  /** The advice for sending the rows of such a file. */
  advice: string;
}

/** Bytes from which every kind is recognised: the mark of a tar archive is at byte 257. */
export const FILE_KIND_BYTES = 262;

const UNPACK = 'Unpack it, and send the file in it.';
const AS_UTF8 = 'Send UTF-8: iconv -f UTF-16 -t UTF-8 FILE.';
const AS_JSONL = 'Send its rows as JSONL, CSV or Parquet.';

function kind(name: string, advice: string, form: FileKind['form'] = null): FileKind {
  return { name, form, advice };
}

/** Marks of kinds as text in latin1, and the byte at which they are. The first that matches is the kind. */
const MARKS: readonly (readonly [mark: string, at: number, kind: FileKind])[] = [
  ['\x1f\x8b', 0, kind('a gzip file', UNPACK, 'gzip')],
  ['\x28\xb5\x2f\xfd', 0, kind('a zstd file', UNPACK, 'zstd')],
  ['BZh', 0, kind('a bzip2 file', 'Send it unpacked (bunzip2 FILE), or as gzip.')],
  ['\xfd7zXZ\0', 0, kind('an xz file', 'Send it unpacked (unxz FILE), or as gzip.')],
  ['\x04\x22\x4d\x18', 0, kind('an lz4 file', 'Send it unpacked (lz4 -d FILE), or as gzip.')],
  ['7z\xbc\xaf\x27\x1c', 0, kind('a 7z archive', UNPACK)],
  ['Rar!', 0, kind('a RAR archive', UNPACK)],
  ['ustar', 257, kind('a tar archive', UNPACK)],
  ['PAR1', 0, kind('a Parquet file', 'Send the Parquet file itself: its pages are compressed.', 'parquet')],
  ['ARROW1', 0, kind('an Arrow file', `${AS_JSONL} datasets: Dataset.from_file(FILE).to_json(OUT).`)],
  ['SQLite format 3\0', 0, kind('an SQLite database', AS_JSONL)],
  ['%PDF-', 0, kind('a PDF', `Text to train on has to be written out. ${AS_JSONL}`)],
  ['\xd0\xcf\x11\xe0', 0, kind('an Office file', AS_JSONL)],
  ['\x89PNG', 0, kind('an image', 'A dataset has text, or numbers.')],
  ['\xff\xd8\xff', 0, kind('an image', 'A dataset has text, or numbers.')],
  ['\xff\xfe', 0, kind('text in UTF-16', AS_UTF8)],
  ['\xfe\xff', 0, kind('text in UTF-16', AS_UTF8)],
  ['{\0', 0, kind('text in UTF-16', AS_UTF8)],
  ['\0{', 0, kind('text in UTF-16', AS_UTF8)],
];

const ZIP_MARK = 'PK\x03\x04';
const OFFICE_PARTS = /^(?:\[Content_Types\]\.xml|_rels\/|docProps\/|xl\/|word\/)/;
/** Position of the name of the first file in a zip archive. */
const ZIP_NAME_AT = 30;

/** The kind of a file by its first {@link FILE_KIND_BYTES}; undefined for what may be JSONL. */
export function fileKindOf(head: Buffer): FileKind | undefined {
  const text = head.toString('latin1');
  if (text.startsWith(ZIP_MARK)) {
    const isOffice = OFFICE_PARTS.test(text.slice(ZIP_NAME_AT));
    return isOffice ? kind('an Office file', AS_JSONL) : kind('a zip archive', UNPACK);
  }
  return MARKS.find(([mark, at]) => text.startsWith(mark, at))?.[2];
}

const CHUNK_BYTES = 2 ** 16;

/** The content of a gzip file. The chunks throw ProductError `invalid_dataset` for a damaged one; errors of `chunks`. */
export async function* gunzip(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const unpacking = createGunzip({ chunkSize: CHUNK_BYTES });
  // An error of the chunks destroys `unpacking` with it, so it is thrown below.
  pipeline(chunks, unpacking).catch(() => {});
  try {
    yield* unpacking;
  } catch (error) {
    if (!isZlibError(error)) throw error;
    const message = `The gzip file is damaged or incomplete (${error.message}). Send it again.`;
    throw new ProductError('invalid_dataset', message, { cause: error });
  }
}

function isZlibError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('Z_');
}
