import type { ServerResponse } from 'node:http';

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
