import path from 'node:path';
import { Readable } from 'node:stream';
import type { FileAnswer, FileSegment } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { ByteRange } from './answer-download.js';

/** A part of a download: bytes, or a range of a file of its bundle. */
export type DownloadPart = Buffer | ({ name: string } & ByteRange);

/**
 * Opens every file, then streams. Once the promise resolves, the stream can be read completely even if the bundle is deleted.
 * @throws ProductError `not_found`
 */
export async function openParts(store: BundleStore, id: string, parts: readonly DownloadPart[]): Promise<Readable> {
  const opened: (Buffer | Readable)[] = [];
  const destroyAll = () => {
    for (const part of opened) if (part instanceof Readable) part.destroy();
  };
  try {
    for (const part of parts) opened.push('name' in part ? await store.read(id, part.name, part) : part);
  } catch (error) {
    destroyAll();
    throw error;
  }
  const [only] = opened;
  if (opened.length === 1 && only instanceof Readable) return only;
  const stream = Readable.from(concatenate(opened), { objectMode: false });
  // A generator that was never started does not run its `finally`.
  stream.once('close', destroyAll);
  return stream;
}

async function* concatenate(parts: readonly (Buffer | Readable)[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    if (part instanceof Readable) yield* part as AsyncIterable<Uint8Array>;
    else yield part;
  }
}

/**
 * The locations of the parts, for another process that reads the same data folder.
 * @returns null when a file is not below `dataDir`
 * @throws ProductError `not_found`
 */
export async function locateParts(
  store: BundleStore,
  id: string,
  parts: readonly DownloadPart[],
  dataDir: string,
): Promise<FileSegment[] | null> {
  const segments: FileSegment[] = [];
  for (const part of parts) {
    if (!('name' in part)) {
      segments.push({ content: part.toString('base64') });
      continue;
    }
    const { name, start, end } = part;
    const located = await store.localFile(id, name);
    if (located === null) return null;
    segments.push({ file: path.relative(dataDir, located.path), fileBytes: located.bytes, start, end });
  }
  return segments;
}

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
