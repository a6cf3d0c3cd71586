import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/** A request that arrives while the server starts to close is still answered. */
const GRACE_MS = 500;

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
