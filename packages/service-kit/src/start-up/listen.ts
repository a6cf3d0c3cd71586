import { ProductError } from '@lorasmith/contracts';
import type { HttpApp } from '../http-app.js';
import { boundConnections } from './max-connections.js';

export interface ListenAddress {
  host: string;
  port: number;
  /** The variables that they come from, for the message. */
  hostVariable: string;
  portVariable: string;
  /** Connections taken at a time, at most half of the files that the process may have open. */
  maxConnections: number;
}

/** @throws ProductError `invalid_configuration` when the port is taken, or the host is none of this machine */
export async function listen(app: HttpApp, { maxConnections, ...address }: ListenAddress): Promise<void> {
  const { host, port, hostVariable, portVariable } = address;
  await boundConnections(app, maxConnections);
  try {
    await app.listen({ host, port });
  } catch (error) {
    switch ((error as NodeJS.ErrnoException).code) {
      case 'EADDRINUSE':
        throw refused(
          `${portVariable} ${port}: another program listens on this port of ${host}. Stop it, or set another ${portVariable}.`,
        );
      case 'EACCES':
        throw refused(`${portVariable} ${port}: this user may not listen on it. Set a ${portVariable} above 1023.`);
      case 'EADDRNOTAVAIL':
      case 'ENOTFOUND':
        throw refused(
          `${hostVariable} ${host}: this machine has no such address. 127.0.0.1 is the machine itself, 0.0.0.0 all of its addresses.`,
        );
      default:
        throw error;
    }
  }
}

function refused(message: string): ProductError {
  return new ProductError('invalid_configuration', message);
}
