import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { Readable, type Writable } from 'node:stream';
import { FileAnswer, type FileSegment, MAX_FILE_ANSWER_BYTES } from '@lorasmith/service-kit';
import { Compile } from 'typebox/compile';

/** A part of a download, open. */
export type OpenSegment = Buffer | { handle: FileHandle; start: number; end: number };

/** The open files of a download, in the order in which they are sent. */
export interface OpenFileAnswer {
  segments: OpenSegment[];
  /** Closes the files, and lets the registry remove them. */
  close(): Promise<void>;
}

const answerSchema = Compile(FileAnswer);
const NEWLINE = 0x0a;

/**
 * Opens the files that the registry names for a download of the adapter `id`. They can be read completely even if the registry
 * dies or they are deleted.
 *
 * @param body - A {@link FileAnswer}. Taken over: it is closed with the files, or at once if this throws.
 * @throws an Error if the answer is not valid or a file cannot be opened
 */
export async function openFileAnswer(body: Readable, dataDir: string, id: string): Promise<OpenFileAnswer> {
  const handles: FileHandle[] = [];
  const close = async () => {
    body.destroy();
    await Promise.all(handles.map((handle) => handle.close()));
  };
  // The registry may end its answer at any time.
  body.on('error', () => {});
  try {
    const answer: unknown = JSON.parse((await firstLine(body)).toString());
    if (!answerSchema.Check(answer)) throw new Error('the file answer of the registry is not valid');
    const segments: OpenSegment[] = [];
    for (const segment of answer.segments) {
      if ('content' in segment) segments.push(Buffer.from(segment.content, 'base64'));
      else {
        const handle = await openFile(segment, dataDir, id);
        handles.push(handle);
        segments.push({ handle, start: segment.start, end: segment.end });
      }
    }
    return { segments, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Number of bytes of a download. */
export function segmentBytes(segments: readonly OpenSegment[]): number {
  return segments.reduce((sum, part) => sum + ('handle' in part ? part.end - part.start + 1 : part.length), 0);
}

/** Reads up to the first newline, and then no more than is needed to notice the end. */
async function firstLine(body: Readable): Promise<Buffer> {
  return await new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer) => {
      const end = chunk.indexOf(NEWLINE);
      chunks.push(end === -1 ? chunk : chunk.subarray(0, end));
      bytes += chunk.length;
      if (end === -1 && bytes <= MAX_FILE_ANSWER_BYTES) return;
      body.off('data', onData).resume();
      if (end === -1) reject(new Error('the file answer of the registry is too long'));
      else resolve(Buffer.concat(chunks));
    };
    body.on('data', onData);
    body.once('close', () => reject(new Error('the file answer of the registry has ended')));
  });
}

/** Opens a file of the adapter, of its merged model, or of its copy from S3, and no other file of the data folder. */
async function openFile(
  { file, fileBytes, start, end }: Exclude<FileSegment, { content: string }>,
  dataDir: string,
  id: string,
): Promise<FileHandle> {
  const [name = '', folder, ...above] = file.split('/').reverse();
  const parent = above.reverse().join('/');
  // What is computed from an adapter has its id and a form.
  const isOfAdapter =
    folder?.split('.', 1)[0] === id && /^(adapters|merged|cache\/adapters-[0-9a-z]+\/content)$/.test(parent);
  if (!isOfAdapter || !/^\w[\w.-]{0,254}$/.test(name)) throw new Error('the registry names a file of something else');
  const handle = await open(path.join(dataDir, file), constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const found = await handle.stat();
    if (found.isFile() && found.size === fileBytes && start <= end && end < fileBytes) return handle;
    throw new Error(`${file} is not the file that the registry names`);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Bytes that are read and sent at once. With smaller blocks the time per call counts, larger ones only take more memory per download. */
const BLOCK_BYTES = 512 * 1024;

/**
 * Sends open files, with one block of memory for the whole download: a block is read again only after the connection has taken
 * it, so a slow client takes the memory of one block. Streams of files allocate each block anew, which takes about twice the processor time.
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
