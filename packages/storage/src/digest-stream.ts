import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type Readable, Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';

export interface Digest {
  /** Hexadecimal. */
  sha256: string;
  bytes: number;
}

/** Passes bytes through and knows their sha256 and number once they have ended. */
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

  /** Of all the bytes; ask after the stream has ended. */
  get digest(): Digest {
    if (this.#digest === undefined) throw new Error('DigestStream: the digest is asked for before the stream ended');
    return this.#digest;
  }
}

/** sha256 and size of what is read, in pieces. @throws what the source throws */
export async function digestStream(source: Readable): Promise<Digest> {
  const digesting = new DigestStream();
  digesting.resume();
  await pipeline(source, digesting);
  return digesting.digest;
}

/** sha256 and size of a file, read in pieces. */
export async function digestFile(file: string): Promise<Digest> {
  return await digestStream(createReadStream(file));
}
