import type { FileHandle } from 'node:fs/promises';

/** Written at once. Each write is a turn of a thread, whatever its size. */
const BLOCK_BYTES = 2 ** 20;
/** Received bytes wait no longer than this for the rest of their block. */
const WAIT_MS = 50;

/** Writes chunks to a file, one after the other, while further ones arrive. Holds at most two blocks. */
export class DownloadWriter {
  readonly #file: FileHandle;
  /** Position of the first chunk that waits. */
  #position: number;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #writing = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(file: FileHandle, position: number) {
    this.#file = file;
    this.#position = position;
  }

  /** Resolves when there is space for another chunk. @throws an error of an earlier write */
  async add(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    if (this.#bytes >= BLOCK_BYTES) await this.#startWriting();
    else this.#timer ??= setTimeout(() => void this.#startWriting().catch(() => {}), WAIT_MS);
  }

  /** Resolves when everything is written. @throws an error of a write */
  async end(): Promise<void> {
    await this.#startWriting();
    await this.#writing;
  }

  /** Resolves when the write before has ended. */
  async #startWriting(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const before = this.#writing;
    const [chunks, position] = [this.#chunks, this.#position];
    this.#position += this.#bytes;
    this.#chunks = [];
    this.#bytes = 0;
    this.#writing = before.then(() => writeAll(this.#file, chunks, position));
    // Reported by the next call.
    this.#writing.catch(() => {});
    await before;
  }
}

async function writeAll(file: FileHandle, chunks: readonly Uint8Array[], position: number): Promise<void> {
  let remaining = chunks.filter(({ byteLength }) => byteLength > 0);
  let at = position;
  while (remaining.length > 0) {
    const { bytesWritten } = await file.writev(remaining, at);
    at += bytesWritten;
    let written = bytesWritten;
    remaining = remaining.flatMap((chunk) => {
      const part = Math.min(written, chunk.byteLength);
      written -= part;
      return part === chunk.byteLength ? [] : [chunk.subarray(part)];
    });
  }
}
