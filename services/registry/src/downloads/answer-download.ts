import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';
import { FILE_ANSWER_HEADER, sharesFolder } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';

export interface DownloadDescription {
  /** A strong ETag, with its quotes. */
  etag: string;
  totalBytes: number;
  contentType: string;
  /** The suggested file name: ASCII without quotes. */
  fileName: string;
}

/** A download that can be answered. One of its methods is called, at most once, and only if content is sent. */
export interface Download extends DownloadDescription {
  /** Opens the bytes. */
  open(range: ByteRange): Promise<Readable>;
  /** Opens a {@link FileAnswer}. Null if a file is not in the data folder. */
  openFileAnswer(range: ByteRange): Promise<Readable | null>;
  /** Another address at which the complete content can be downloaded; null if there is none. */
  redirection(): Promise<string | null>;
}

export interface AnswerDownloadOptions {
  /**
   * The connection is closed if the api reads no bytes for twice this time. The api itself ends a download after `stallMs`, but
   * may have buffered bytes that its slow client has not read.
   */
  stallMs: number;
  /** The token of the data folder: who sends it receives a {@link FileAnswer}. Null: nobody does. */
  folderToken: string | null;
}

/**
 * Answers GET and HEAD for a download: 200, 206, 304, 307 or 416, with Content-Length, ETag and Accept-Ranges on each but 307.
 *
 * @throws ProductError `range_not_satisfiable`, with Content-Range set on the reply
 */
export async function answerDownload(
  request: FastifyRequest,
  reply: FastifyReply,
  download: Download,
  { stallMs, folderToken }: AnswerDownloadOptions,
): Promise<FastifyReply> {
  const { etag, totalBytes } = download;
  // Clients revalidate each use: the bytes of an adapter never change, but it can be deleted.
  const always = { etag, 'accept-ranges': 'bytes', 'cache-control': 'private, no-cache' };
  if (matchesIfNoneMatch(request.headers['if-none-match'], etag)) return reply.code(304).headers(always).send();

  const { headers, method } = request;
  const location = method === 'GET' ? await download.redirection() : null;
  if (location !== null) return reply.code(307).headers({ location, 'cache-control': 'no-store' }).send();

  reply.headers(always);
  // Range is defined only for GET.
  const asksForRange = method === 'GET' && matchesIfRange(headers['if-range'] as string | undefined, etag);
  const range = asksForRange ? parseByteRange(headers.range, totalBytes) : 'whole';
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${totalBytes}`);
    throw new ProductError('range_not_satisfiable', `The range starts past the end of ${totalBytes} bytes.`);
  }
  const { start, end } = range === 'whole' ? { start: 0, end: totalBytes - 1 } : range;
  const describe = () => {
    if (range !== 'whole') reply.code(206).header('content-range', `bytes ${start}-${end}/${totalBytes}`);
    reply.headers({
      'content-type': download.contentType,
      'content-disposition': `attachment; filename="${download.fileName}"`,
    });
  };
  const { socket } = request.raw;
  const mayReadFiles = method === 'GET' && sharesFolder(headers, folderToken);
  const files = mayReadFiles ? await download.openFileAnswer({ start, end }) : null;
  if (files !== null) {
    describe();
    // The api decides whether its client has stalled.
    socket.setTimeout(0);
    return reply.header(FILE_ANSWER_HEADER, '1').send(files);
  }
  // Opened before the headers are set, which must not appear on an error. Without a payload, Fastify would answer HEAD with
  // a Content-Length of 0.
  const stream = method === 'HEAD' ? Readable.from([]) : await download.open({ start, end });
  describe();
  socket.setTimeout(2 * stallMs);
  return reply.header('content-length', end - start + 1).send(stream);
}

/** Bytes `start` to `end`, both inclusive, from 0. */
export interface ByteRange {
  start: number;
  end: number;
}

/**
 * Reads a Range header (RFC 9110, 14.1.2) for content of this size.
 *
 * @returns the range; `whole` without a usable range (several ranges, another unit or invalid syntax, which a server may
 * ignore); `unsatisfiable` if the range contains no byte
 */
export function parseByteRange(header: string | undefined, sizeBytes: number): ByteRange | 'whole' | 'unsatisfiable' {
  const match = /^bytes=(?:(\d{1,16})-(\d{0,16})|-(\d{1,16}))$/i.exec(header?.replaceAll(/[ \t]/g, '') ?? '');
  if (match === null) return 'whole';
  const [, first, last, suffix] = match;
  if (first === undefined) {
    const lengthBytes = Math.min(Number(suffix), sizeBytes);
    return lengthBytes === 0 ? 'unsatisfiable' : { start: sizeBytes - lengthBytes, end: sizeBytes - 1 };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return 'whole';
  if (start >= sizeBytes) return 'unsatisfiable';
  return { start, end: last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1) };
}

/** A strong ETag from the parts that determine every byte: different content must have different parts. */
export function entityTag(...parts: (string | number)[]): string {
  return `"${createHash('sha256').update(JSON.stringify(parts)).digest('hex')}"`;
}

/** True if the client already has the content (RFC 9110, 13.1.2: weak comparison). */
export function matchesIfNoneMatch(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return header.split(',').some((candidate) => candidate.trim().replace(/^W\//, '') === etag);
}

/** True if the Range applies (RFC 9110, 13.1.5: strong comparison; dates never match, because none are sent). */
export function matchesIfRange(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === etag;
}
