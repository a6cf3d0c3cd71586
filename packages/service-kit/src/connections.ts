import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { answerStalled } from './error-answer.js';

/** Maximum time for which the rest of a refused body is read. */
const MAX_MS = 30_000;
/** Maximum time without a byte of it. */
const MAX_SILENCE_MS = 5_000;
/** Maximum bytes of it. */
const MAX_BYTES = 2 ** 30;
/** Maximum connections that linger at the same time; further ones are closed at once. */
const MAX_LINGERING = 100;
/** Limits, for docs/limits.md. */
export const lingeringLimits = {
  bytes: { value: MAX_BYTES, unit: 'bytes', beyond: 'the connection is closed' },
  time: { value: MAX_MS, unit: 'ms', beyond: 'the connection is closed' },
  silence: { value: MAX_SILENCE_MS, unit: 'ms', beyond: 'the connection is closed' },
  connections: {
    value: MAX_LINGERING,
    unit: 'connections',
    beyond: 'further ones are closed with the answer, which their sender may lose',
  },
};

const LIMITS = { ms: MAX_MS, silenceMs: MAX_SILENCE_MS, bytes: MAX_BYTES, connections: MAX_LINGERING };
/** The interval between checks of the limits. Times are counted in checks: those of a busy process do not count against its client. */
const CHECK_MS = 250;
/** A closing server gives connections this time: those that linger, and a request that arrives while it starts to close. */
const GRACE_MS = 500;

/**
 * Closes connections in stages, as RFC 9112, 9.6 describes and nginx does (`lingering_close`).
 *
 * An answer may be sent before the body of its request has arrived, for example if the body is too large. Node would then
 * close the socket with unread bytes in it. The system answers those with a reset, on which the client may lose the answer
 * or fail to send. So only the writing side is closed, and the rest of the body is read and discarded, within limits of
 * time and bytes, until the client has sent it or closes the connection.
 *
 * @returns a function that ends the lingering, now and while the server is closing
 */
export function lingerOnClose(server: Server, limits = LIMITS): () => void {
  const lingering = new Set<Socket>();
  let closing = false;
  const onRequest = (request: IncomingMessage) => {
    const { socket } = request;
    // Node calls this after the last answer of a connection.
    socket.destroySoon = () => {
      Reflect.deleteProperty(socket, 'destroySoon');
      if (request.complete || closing || lingering.size >= limits.connections) {
        socket.destroySoon();
        return;
      }
      lingering.add(socket);
      socket.once('close', () => lingering.delete(socket));
      linger(request, limits);
    };
  };
  server.on('request', onRequest);
  server.on('checkExpectation', onRequest);
  return () => {
    closing = true;
    setTimeout(() => {
      for (const socket of lingering) socket.destroy();
    }, GRACE_MS).unref();
  };
}

/** True if the client still sends the body of its request. */
export function isStillSent({ headers, complete }: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = headers;
  return !complete && (length !== '0' || encoding !== undefined);
}

function linger(request: IncomingMessage, { ms, silenceMs, bytes: maxBytes }: typeof LIMITS): void {
  const { socket } = request;
  socket.end();
  const bytesBefore = socket.bytesRead;
  let bytes = bytesBefore;
  let [total, silent] = [0, 0];
  const check = () => {
    total++;
    silent = socket.bytesRead > bytes ? 0 : silent + 1;
    bytes = socket.bytesRead;
    const isOver = bytes - bytesBefore > maxBytes || total * CHECK_MS > ms || silent * CHECK_MS > silenceMs;
    if (isOver) socket.destroy();
  };
  const checks = setInterval(check, CHECK_MS);
  socket.once('close', () => clearInterval(checks));
  request.once('end', () => socket.destroySoon());
  request.unpipe();
  request.on('data', () => {});
  request.resume();
}

/** Checks in the time after which a body counts as stalled. Times are counted in checks: those of a busy process do not count against its client. */
const CHECKS = 8;

interface SentBody {
  response: ServerResponse;
  /** Bytes of the connection at the last check. */
  bytes: number;
  /** Checks without a further byte. */
  silent: number;
}

/**
 * Ends requests of which no byte arrives for `stallMs` in the middle of their bodies, with 408: each would hold its place among the uploads for as
 * long as a request may take. A body that waits because this process does not read it is not stalled.
 */
export function endStalledBodies(server: Server, stallMs: number): void {
  const sent = new Map<IncomingMessage, SentBody>();
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    if (!isStillSent(request)) return;
    sent.set(request, { response, bytes: request.socket.bytesRead, silent: 0 });
    const forget = () => sent.delete(request);
    request.once('end', forget).once('close', forget);
  });
  const checks = setInterval(() => {
    for (const [request, body] of sent) {
      const { bytesRead } = request.socket;
      const isSilent = bytesRead === body.bytes && request.readableLength === 0 && !body.response.headersSent;
      body.silent = isSilent ? body.silent + 1 : 0;
      body.bytes = bytesRead;
      if (body.silent <= CHECKS) continue;
      sent.delete(request);
      answerStalled(request.socket, stallMs);
    }
  }, stallMs / CHECKS);
  checks.unref();
  server.once('close', () => clearInterval(checks));
}

/**
 * Tracks connections without a request so far, which clients open in advance. Node does not count them as idle, so a
 * closing server would wait for them until the timeout for headers.
 *
 * @returns a function that closes them, now and while the server is closing
 */
export function trackUnusedConnections(server: Server): () => void {
  const unused = new Set<Socket>();
  let closing = false;
  const closeSoon = () => {
    setTimeout(() => {
      for (const socket of unused) socket.destroy();
    }, GRACE_MS).unref();
  };
  server.on('connection', (socket: Socket) => {
    unused.add(socket);
    socket.once('close', () => unused.delete(socket));
    if (closing) closeSoon();
  });
  server.on('request', ({ socket }) => unused.delete(socket));
  return () => {
    closing = true;
    closeSoon();
  };
}

/** Calls `run` when the answer has ended; at once if its client has already disconnected. */
export function onceClosed(response: ServerResponse, run: () => void): void {
  if (response.destroyed) run();
  else response.once('close', run);
}

/** Aborted when the client disconnects before its answer begins: then the work for it can stop. */
export function untilClosed(response: ServerResponse, reason?: Error): AbortSignal {
  const closed = new AbortController();
  onceClosed(response, () => {
    if (!response.headersSent) closed.abort(reason);
  });
  return closed.signal;
}
