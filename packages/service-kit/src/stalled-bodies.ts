import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { answerStalled } from './error-answer.js';
import { isStillSent } from './lingering-close.js';

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
