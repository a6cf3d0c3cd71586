import { Readable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ByteRange, parseByteRange } from './byte-range.js';
import { matchesIfNoneMatch, matchesIfRange } from './entity-tag.js';

/** Content whose bytes are fixed before they are read. */
export interface Download {
  /** A strong ETag, with its quotes. */
  etag: string;
  totalBytes: number;
  contentType: string;
  /** The suggested file name: ASCII without quotes. */
  fileName: string;
  /** Called once, and only if bytes are sent. */
  open(range: ByteRange): Promise<Readable>;
}

/**
 * Answers GET and HEAD for a download: 200, 206, 304 or 416, with Content-Length, ETag and Accept-Ranges on each.
 *
 * @param stallMs - The connection is closed if the api reads no bytes for twice this time. The api itself ends a download
 *   after `stallMs`, but may have buffered bytes that its slow client has not read.
 * @throws ProductError `range_not_satisfiable`, with Content-Range set on the reply
 */
export async function answerDownload(
  request: FastifyRequest,
  reply: FastifyReply,
  download: Download,
  stallMs: number,
): Promise<FastifyReply> {
  const { etag, totalBytes } = download;
  // Clients revalidate each use: the bytes of an adapter never change, but it can be deleted.
  reply.headers({ etag, 'accept-ranges': 'bytes', 'cache-control': 'private, no-cache' });
  if (matchesIfNoneMatch(request.headers['if-none-match'], etag)) return reply.code(304).send();

  const { headers, method } = request;
  // Range is defined only for GET.
  const asksForRange = method === 'GET' && matchesIfRange(headers['if-range'] as string | undefined, etag);
  const range = asksForRange ? parseByteRange(headers.range, totalBytes) : 'whole';
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${totalBytes}`);
    throw new ProductError('range_not_satisfiable', `The range starts past the end of ${totalBytes} bytes.`);
  }
  const { start, end } = range === 'whole' ? { start: 0, end: totalBytes - 1 } : range;
  // Opened before the headers are set, which must not appear on an error. Without a payload, Fastify would answer HEAD with
  // a Content-Length of 0.
  const stream = method === 'HEAD' ? Readable.from([]) : await download.open({ start, end });
  if (range !== 'whole') reply.code(206).header('content-range', `bytes ${start}-${end}/${totalBytes}`);
  reply.headers({
    'content-type': download.contentType,
    'content-disposition': `attachment; filename="${download.fileName}"`,
    'content-length': end - start + 1,
  });
  request.raw.socket.setTimeout(2 * stallMs);
  return reply.send(stream);
}
