import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type Readable, Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';

export interface Digest {
  /** Hexadecimal. */
  sha256: string;
  bytes: number;
}

/** The bytes of all files, records or bundles together. */
export function totalBytes(sized: Iterable<{ readonly bytes: number }>): number {
  let total = 0;
  for (const { bytes } of sized) total += bytes;
  return total;
}

/** Passes bytes through and computes their sha256 and number. */
export class DigestStream extends Transform {
  readonly #hash = createHash('sha256');
  #bytes = 0;
  #digest: Digest | undefined;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#hash.update(chunk);
    this.#bytes += chunk.length;
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    this.#digest = { sha256: this.#hash.digest('hex'), bytes: this.#bytes };
    done();
  }

  /** The digest of all bytes; only available after the stream has ended. */
  get digest(): Digest {
    if (this.#digest === undefined) throw new Error('DigestStream: the stream has not ended yet');
    return this.#digest;
  }
}

/** sha256 and size of a stream, read in pieces. @throws errors of the source */
export async function digestStream(source: Readable): Promise<Digest> {
  const digesting = new DigestStream();
  digesting.resume();
  await pipeline(source, digesting);
  return digesting.digest;
}

/** sha256 and size of a file, read in pieces. */
export async function digestFile(file: string): Promise<Digest> {
  return await digestStream(createReadStream(file, { highWaterMark: 2 ** 20 }));
}
