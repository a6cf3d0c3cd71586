import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';

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
/** How often the limits are checked. Times are counted in checks: those of a busy process do not count against its client. */
const CHECK_MS = 250;
/** A closing server gives the connections that linger this time. */
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

/** Whether the client still sends the body of its request. */
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
