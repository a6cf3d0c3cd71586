import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { ProductError } from '@lorasmith/contracts';

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
