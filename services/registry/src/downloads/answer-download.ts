import { Readable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ByteRange, parseByteRange } from './byte-range.js';
import { matchesIfNoneMatch, matchesIfRange } from './entity-tag.js';

/** Something whose every byte is fixed before it is read. */
export interface Download {
  /** Strong, with its quotes. */
  etag: string;
  totalBytes: number;
  contentType: string;
  /** Name it is saved under. ASCII without quotes. */
  fileName: string;
  /** Called once, only when there are bytes to send. */
  open(range: ByteRange): Promise<Readable>;
}

/**
 * Answers GET and HEAD for a download: 200, 206, 304 or 416, with Content-Length, ETag and Accept-Ranges on each.
 *
 * @param stallMs the connection is closed if the caller takes no bytes for twice this long: the api, which ends a download
 *   after `stallMs`, may still hold bytes that its slow client has not taken
 * @throws ProductError range_not_satisfiable, with Content-Range set on the reply
 */
export async function answerDownload(
  request: FastifyRequest,
  reply: FastifyReply,
  download: Download,
  stallMs: number,
): Promise<FastifyReply> {
  const { etag, totalBytes } = download;
  // Revalidated at each use: an adapter can be deleted, though its bytes never change.
  reply.headers({ etag, 'accept-ranges': 'bytes', 'cache-control': 'private, no-cache' });
  if (matchesIfNoneMatch(request.headers['if-none-match'], etag)) return reply.code(304).send();

  const { headers, method } = request;
  // Range is defined for GET alone.
  const asksForRange = method === 'GET' && matchesIfRange(headers['if-range'] as string | undefined, etag);
  const range = asksForRange ? parseByteRange(headers.range, totalBytes) : 'whole';
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${totalBytes}`);
    throw new ProductError('range_not_satisfiable', `The range starts past the end of ${totalBytes} bytes.`);
  }
  const { start, end } = range === 'whole' ? { start: 0, end: totalBytes - 1 } : range;
  // Opened first: an error is not to be answered under the headers of the download. With no payload at all Fastify
  // would answer HEAD with a Content-Length of 0.
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
