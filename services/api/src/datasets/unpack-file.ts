import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { ProductError } from '@lorasmith/contracts';
import { bounded } from '@lorasmith/service-kit';
import { FILE_KIND_BYTES, type FileKind, fileKindOf } from './file-kind.js';

const CHUNK_BYTES = 2 ** 16;

/**
 * The text of an uploaded file: its bytes, or those that it holds compressed.
 *
 * The chunks throw ProductError `invalid_dataset` for a file of another kind and for a damaged one; `body_too_large` where more than
 * `maxBytes` come out of it; errors of `chunks`.
 */
export async function* unpackedFile(chunks: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  const file = await withHead(chunks);
  const kind = fileKindOf(file.head);
  if (kind === undefined) return yield* file.chunks;
  if (!kind.isCompressed) throw notTaken(kind.name, kind);

  const content = await withHead(gunzipped(file.chunks, maxBytes));
  const contentKind = fileKindOf(content.head);
  if (contentKind !== undefined) throw notTaken(`${kind.name} of ${contentKind.name}`, contentKind);
  yield* content.chunks;
}

interface FileWithHead {
  /** The first bytes: at least {@link FILE_KIND_BYTES}, or all there are. */
  head: Buffer;
  /** All bytes. */
  chunks: AsyncGenerator<Buffer>;
}

async function withHead(chunks: AsyncIterable<Buffer>): Promise<FileWithHead> {
  const iterator = chunks[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < FILE_KIND_BYTES) {
    const next = await iterator.next();
    if (next.done) break;
    head = Buffer.concat([head, next.value]);
  }
  async function* all(): AsyncGenerator<Buffer> {
    try {
      if (head.length > 0) yield head;
      yield* { [Symbol.asyncIterator]: () => iterator };
    } finally {
      await iterator.return?.();
    }
  }
  return { head, chunks: all() };
}

async function* gunzipped(chunks: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  // An error of the chunks destroys `gunzip` with it, so it is thrown below.
  pipeline(chunks, gunzip).catch(() => {});
  try {
    yield* bounded(gunzip, maxBytes, 'unpacked file');
  } catch (error) {
    if (!isZlibError(error)) throw error;
    const message = `The gzip file is damaged or incomplete (${error.message}). Send it again. Nothing was stored.`;
    throw new ProductError('invalid_dataset', message, { cause: error });
  }
}

function isZlibError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('Z_');
}

function notTaken(what: string, { advice }: FileKind): ProductError {
  return new ProductError('invalid_dataset', `This is ${what}. ${advice} Nothing was stored.`);
}
