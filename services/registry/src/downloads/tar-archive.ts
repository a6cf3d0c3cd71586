import { Readable } from 'node:stream';
import { Header, Pax } from 'tar';
import type { ByteRange } from './byte-range.js';

const BLOCK_BYTES = 512;

/** A file for an archive. */
export interface TarEntry {
  name: string;
  bytes: number;
  /** Opens a range of the file. Once the promise resolves, it can be read completely even if the file is deleted. */
  open(range: ByteRange): Promise<Readable>;
}

/** A tar whose layout is known before a file is read, so it has a size and can be served in ranges. */
export interface TarArchive {
  totalBytes: number;
  /** Opens every file within the range, then streams. */
  open: (range: ByteRange) => Promise<Readable>;
}

type Segment = { start: number; bytes: number } & ({ content: Buffer } | { entry: TarEntry });

/**
 * Lays out a POSIX tar (ustar, with pax headers for names over 100 bytes and files over 8 GiB): entries sorted by name,
 * owner root, mode 0644, one modification time. The same entries always give the same bytes.
 */
export function layOutTar(entries: readonly TarEntry[], mtime: Date): TarArchive {
  const segments: Segment[] = [];
  let totalBytes = 0;
  const append = (bytes: number, what: { content: Buffer } | { entry: TarEntry }) => {
    if (bytes > 0) segments.push({ start: totalBytes, bytes, ...what });
    totalBytes += bytes;
  };
  const appendContent = (content: Buffer) => append(content.byteLength, { content });

  const byName = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of byName) {
    appendContent(headerOf(entry, mtime));
    append(entry.bytes, { entry });
    appendContent(Buffer.alloc((BLOCK_BYTES - (entry.bytes % BLOCK_BYTES)) % BLOCK_BYTES));
  }
  appendContent(Buffer.alloc(2 * BLOCK_BYTES));
  return { totalBytes, open: (range) => openSegments(segments, range) };
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

async function openSegments(segments: readonly Segment[], { start, end }: ByteRange): Promise<Readable> {
  const parts: (Buffer | Readable)[] = [];
  const destroyAll = () => {
    for (const part of parts) if (part instanceof Readable) part.destroy();
  };
  try {
    for (const segment of segments) {
      const from = Math.max(0, start - segment.start);
      const to = Math.min(segment.bytes - 1, end - segment.start);
      if (from > to) continue;
      const isContent = 'content' in segment;
      parts.push(
        isContent ? segment.content.subarray(from, to + 1) : await segment.entry.open({ start: from, end: to }),
      );
    }
  } catch (error) {
    destroyAll();
    throw error;
  }
  const stream = Readable.from(concatenate(parts), { objectMode: false });
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
