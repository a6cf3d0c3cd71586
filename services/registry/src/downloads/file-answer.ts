import { Readable } from 'node:stream';
import type { FileAnswer, FileSegment } from '@lorasmith/service-kit';

/** More often than the api expects a byte of an answer. */
const SIGN_OF_LIFE_MS = 30_000;

/** The body of a {@link FileAnswer}: ends when its reader closes it, or with `end`. */
export class FileAnswerStream extends Readable {
  readonly #timer: NodeJS.Timeout;

  constructor(segments: FileSegment[]) {
    super({ read() {} });
    const answer: FileAnswer = { segments };
    this.push(`${JSON.stringify(answer)}\n`);
    // Without it, the connection to an api that has disappeared would stay open.
    this.#timer = setInterval(() => this.push('\n'), SIGN_OF_LIFE_MS).unref();
  }

  end(): void {
    clearInterval(this.#timer);
    if (!this.destroyed) this.push(null);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearInterval(this.#timer);
    done(error);
  }
}
