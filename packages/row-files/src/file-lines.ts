import { bounded, ProductError } from '@lorasmith/contracts';
import { withHead } from './chunk-head.js';
import { FILE_KIND_BYTES, type FileKind, fileKindOf } from './file-kind.js';
import { linesOfText, type TextOptions } from './text-lines.js';
import { gunzip } from './unpack-gzip.js';

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
