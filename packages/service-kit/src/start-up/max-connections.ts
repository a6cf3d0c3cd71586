import { readFile } from 'node:fs/promises';
import type { HttpApp } from '../http-app.js';

const LOG_EVERY_MS = 60_000;

/**
 * Bounds the connections of the server: without that, a process that has as many files open as it may can answer nothing
 * any more, not even those who are connected.
 */
export async function boundConnections(app: HttpApp, most: number): Promise<void> {
  const { server } = app;
  server.maxConnections = Math.min(most, Math.floor((await openFilesLimit()) / 2));
  let loggedAt = Number.NEGATIVE_INFINITY;
  server.on('drop', () => {
    if (performance.now() - loggedAt < LOG_EVERY_MS) return;
    loggedAt = performance.now();
    app.log.warn({ most: server.maxConnections }, 'connections are closed: there are as many as may be');
  });
}

/** How many files this process may have open; Node has raised it as far as it may. */
async function openFilesLimit(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  const soft = /^Max open files +(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}
