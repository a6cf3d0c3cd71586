import path from 'node:path';
import { Readable } from 'node:stream';
import { type AdapterFile, TAR_MEDIA_TYPES } from '@lorasmith/contracts';
import type { FileAnswer, FileSegment } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { Header, Pax } from 'tar';
import { type ByteRange, type DownloadDescription, entityTag } from './answer-download.js';

const CONTENT_TYPES: Record<string, string> = {
  json: 'application/json; charset=utf-8',
  jinja: 'text/plain; charset=utf-8',
  md: 'text/plain; charset=utf-8',
  txt: 'text/plain; charset=utf-8',
};

/** Files of a published bundle, with their digests. */
export interface BundleContent {
  store: BundleStore;
  id: string;
  files: readonly AdapterFile[];
}

/** Content whose bytes are fixed before they are read. */
export interface DownloadContent extends DownloadDescription {
  /** The parts of the range, in order. */
  parts(range: ByteRange): DownloadPart[];
}

/** One file of a bundle. */
export function fileContent({ name, bytes, sha256 }: AdapterFile): DownloadContent {
  return {
    etag: `"${sha256}"`,
    totalBytes: bytes,
    contentType:
      CONTENT_TYPES[name === 'Modelfile' ? 'txt' : name.slice(name.lastIndexOf('.') + 1)] ?? 'application/octet-stream',
    fileName: name,
    parts: (range) => (bytes === 0 ? [] : [{ name, ...range }]),
  };
}

/** True for a file of weights. */
export function isWeightsFile(name: string): boolean {
  return /\.(safetensors|gguf)$/.test(name);
}

/** The content with these texts in place of the files of their names. They have the sizes with which it was laid out. */
export function withTexts(content: DownloadContent, texts: ReadonlyMap<string, Buffer>): DownloadContent {
  const partOf = (part: DownloadPart) =>
    'name' in part ? (texts.get(part.name)?.subarray(part.start, part.end + 1) ?? part) : part;
  return { ...content, parts: (range) => content.parts(range).map(partOf) };
}

/** All files of a bundle as a tar, at its top level. @param mtime - Modification time of all files in the tar */
export function tarContent(files: readonly AdapterFile[], mtime: Date, fileName: string): DownloadContent {
  const { totalBytes, parts } = layOutTar(files, mtime);
  const etag = entityTag('tar', mtime.getTime(), ...files.flatMap(({ name, sha256 }) => [name, sha256]));
  return { etag, totalBytes, contentType: TAR_MEDIA_TYPES[0], fileName, parts };
}

const BLOCK_BYTES = 512;

/** A file for an archive. */
interface TarEntry {
  name: string;
  bytes: number;
}

/** A tar whose layout is known before a file is read, so it has a size and can be served in ranges. */
interface TarArchive {
  totalBytes: number;
  /** The parts of the range, in order. */
  parts: (range: ByteRange) => DownloadPart[];
}

type Segment = { start: number; bytes: number } & ({ content: Buffer } | { name: string });

/**
 * Lays out a POSIX tar (ustar, with pax headers for names over 100 bytes and files over 8 GiB): entries sorted by name,
 * owner root, mode 0644, one modification time. The same entries always give the same bytes.
 */
export function layOutTar(entries: readonly TarEntry[], mtime: Date): TarArchive {
  const segments: Segment[] = [];
  let totalBytes = 0;
  const append = (bytes: number, what: { content: Buffer } | { name: string }) => {
    if (bytes > 0) segments.push({ start: totalBytes, bytes, ...what });
    totalBytes += bytes;
  };
  const appendContent = (content: Buffer) => append(content.byteLength, { content });

  const byName = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, bytes } of byName) {
    appendContent(headerOf({ name, bytes }, mtime));
    append(bytes, { name });
    appendContent(Buffer.alloc((BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES));
  }
  appendContent(Buffer.alloc(2 * BLOCK_BYTES));
  return { totalBytes, parts: (range) => partsWithin(segments, range) };
}

function headerOf({ name, bytes }: TarEntry, mtime: Date): Buffer {
  // Whole seconds, because a header has no fraction.
  const wholeSeconds = new Date(Math.floor(mtime.getTime() / 1000) * 1000);
  const fields = { path: name, size: bytes, mode: 0o644, uid: 0, gid: 0, mtime: wholeSeconds, type: 'File' } as const;
  const header = new Header(fields);
  const needsPax = header.encode();
  if (!needsPax) return header.block!;
  const pax = new Pax({ path: name, size: bytes, mtime: wholeSeconds }).encode();
  return Buffer.concat([pax, header.block!]);
}

function partsWithin(segments: readonly Segment[], { start, end }: ByteRange): DownloadPart[] {
  const parts: DownloadPart[] = [];
  for (const segment of segments) {
    const from = Math.max(0, start - segment.start);
    const to = Math.min(segment.bytes - 1, end - segment.start);
    if (from > to) continue;
    parts.push(
      'content' in segment ? segment.content.subarray(from, to + 1) : { name: segment.name, start: from, end: to },
    );
  }
  return parts;
}

/** A part of a download: bytes, or a range of a file of its bundle. */
type DownloadPart = Buffer | ({ name: string } & ByteRange);

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
