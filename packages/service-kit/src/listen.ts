import { readFile } from 'node:fs/promises';
import { ProductError } from '@lorasmith/contracts';
import type { HttpApp } from './http-app.js';

export interface ListenAddress {
  host: string;
  port: number;
  /** The environment variables of host and port, for messages. */
  hostVariable: string;
  portVariable: string;
  /** Limit of open connections; also at most half of the process's limit of open files. */
  maxConnections: number;
}

/** @throws ProductError `invalid_configuration` if the port is in use, or the host is not an address of this machine */
export async function listen(app: HttpApp, { maxConnections, ...address }: ListenAddress): Promise<void> {
  const { host, port, hostVariable, portVariable } = address;
  await limitConnections(app, maxConnections);
  try {
    await app.listen({ host, port });
  } catch (error) {
    switch ((error as NodeJS.ErrnoException).code) {
      case 'EADDRINUSE':
        throw refused(
          `${portVariable} ${port}: another program listens on this port of ${host}. Stop it, or set another ${portVariable}.`,
        );
      case 'EACCES':
        throw refused(
          `${portVariable} ${port}: this user may not listen on this port. Set a ${portVariable} above 1023.`,
        );
      case 'EADDRNOTAVAIL':
      case 'ENOTFOUND':
        throw refused(
          `${hostVariable} ${host}: this machine has no such address. Use 127.0.0.1 for the machine itself, or 0.0.0.0 for all of its addresses.`,
        );
      default:
        throw error;
    }
  }
}

function refused(message: string): ProductError {
  return new ProductError('invalid_configuration', message);
}

const LOG_EVERY_MS = 60_000;

/**
 * Limits the connections of the server. Without it, a process that reaches its limit of open files can no longer answer any
 * client, not even a connected one.
 */
async function limitConnections(app: HttpApp, limit: number): Promise<void> {
  const { server } = app;
  server.maxConnections = Math.min(limit, Math.floor((await openFilesLimit()) / 2));
  let loggedAt = Number.NEGATIVE_INFINITY;
  server.on('drop', () => {
    if (performance.now() - loggedAt < LOG_EVERY_MS) return;
    loggedAt = performance.now();
    app.log.warn({ limit: server.maxConnections }, 'closing new connections: their limit is reached');
  });
}

/** Limit of open files of this process; Node has already raised it to the maximum. */
async function openFilesLimit(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  const soft = /^Max open files +(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}
