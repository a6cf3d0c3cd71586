import { bounded, ProductError } from '@lorasmith/contracts';
import { withHead } from './chunk-head.js';
import { FILE_KIND_BYTES, type FileKind, fileKindOf } from './file-kind.js';
import { linesOfText, type TextOptions } from './text-lines.js';
import { gunzip } from './unpack-gzip.js';

/** Reads a file that is expensive to read. */
export type FileReader = (chunks: AsyncIterable<Buffer>) => AsyncIterable<Buffer>;

export interface FileOptions extends TextOptions {
  /** The most bytes that come out of a compressed file. */
  maxBytes: number;
  /** The content of a zstd file. */
  unzstd: FileReader;
  /** The rows of a Parquet file as JSON, one line each. */
  linesOfParquet: FileReader;
}

/**
 * The rows of a file as JSON, one line each, whatever its form is. JSONL passes as it is, and so does what has no form that is known.
 *
 * The lines throw ProductError `invalid_dataset` for a file of another kind and for a damaged one; `body_too_large` where more than
 * `maxBytes` come out of it; errors of `chunks` and of the readers.
 */
export async function* linesOfFile(chunks: AsyncIterable<Buffer>, options: FileOptions): AsyncGenerator<Buffer> {
  const file = await headed(chunks);
  if (file.kind === undefined) return yield* linesOfText(file.chunks, options);
  if (file.kind.form === 'parquet') return yield* options.linesOfParquet(file.chunks);
  if (file.kind.form === null) throw notTaken(file.kind.name, file.kind);

  const unpack = file.kind.form === 'gzip' ? gunzip : options.unzstd;
  const content = await headed(bounded(unpack(file.chunks), options.maxBytes, 'unpacked file'));
  if (content.kind !== undefined) throw notTaken(`${file.kind.name} of ${content.kind.name}`, content.kind);
  yield* linesOfText(content.chunks, options);
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
