import { Readable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';
import { FILE_ANSWER_HEADER, sharesFolder } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { DownloadContent } from './bundle-downloads.js';
import { type ByteRange, parseByteRange } from './byte-range.js';
import { matchesIfNoneMatch, matchesIfRange } from './entity-tag.js';

/** A download that can be answered. One of its methods is called, at most once, and only if content is sent. */
export interface Download extends Omit<DownloadContent, 'parts'> {
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
