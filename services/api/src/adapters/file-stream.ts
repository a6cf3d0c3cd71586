import { Readable, type Writable } from 'node:stream';
import type { OpenFileAnswer } from './file-answer.js';

/** Read and sent at once. With smaller blocks the time per call counts, larger ones only take more memory per download. */
const BLOCK_BYTES = 512 * 1024;

/**
 * Sends open files, with one block of memory for the whole download: a block is read again only after the connection has taken
 * it, so a slow client holds no more than one. Streams of files allocate each block anew, which takes about twice the processor time.
 *
 * Only `pipe` reads it.
 */
export class FileStream extends Readable {
  readonly #answer: OpenFileAnswer;
  /** Continues after a block that the connection will not take. */
  #giveUp = () => {};

  constructor(answer: OpenFileAnswer) {
    super({ read() {} });
    this.#answer = answer;
  }

  override pipe<To extends NodeJS.WritableStream>(destination: To): To {
    this.#send(destination as unknown as Writable).then(
      () => {
        if (this.destroyed) return;
        destination.end();
        // Ends this stream, too.
        this.push(null);
        this.resume();
      },
      (error: Error) => this.destroy(error),
    );
    return destination;
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#giveUp();
    this.#answer.close().then(
      () => done(error),
      (cause: Error) => done(error ?? cause),
    );
  }

  async #send(destination: Writable): Promise<void> {
    const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    for (const segment of this.#answer.segments) {
      if (this.destroyed) return;
      if (!('handle' in segment)) {
        await this.#write(destination, segment);
        continue;
      }
      const { handle, start, end } = segment;
      for (let position = start; position <= end && !this.destroyed; ) {
        const { bytesRead } = await handle.read(block, 0, Math.min(block.length, end + 1 - position), position);
        if (bytesRead === 0) throw new Error('a file of the download became shorter while it was sent');
        await this.#write(destination, block.subarray(0, bytesRead));
        position += bytesRead;
      }
    }
  }

  /** Resolves when the connection no longer needs the bytes. */
  async #write(destination: Writable, bytes: Uint8Array): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#giveUp = resolve;
      destination.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }
}
