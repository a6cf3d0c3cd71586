import { once } from 'node:events';
import { createServer } from 'node:net';
import { SetupError } from '../setup/run-steps.mjs';

/**
 * The range in which free ports are chosen. It is below the ephemeral ports, so that no outgoing connection takes the port
 * before the service starts.
 */
const FREE_PORTS = { first: 20_000, count: 12_000 };
const TRIES = 20;

/**
 * The port to listen on.
 *
 * @param {string} host
 * @param {number} port 0 for any free one
 * @param {string} setting the environment variable that chooses it, for the message
 * @returns {Promise<number>} a port that is currently free
 * @throws {SetupError} when the port is in use, or the host is not an address of this machine
 */
export async function availablePort(host, port, setting) {
  if (port !== 0) return await checkedPort(host, port, setting);
  for (let tries = 1; ; tries++) {
    const candidate = FREE_PORTS.first + Math.floor(Math.random() * FREE_PORTS.count);
    try {
      return await checkedPort(host, candidate, setting);
    } catch (error) {
      if (tries === TRIES) throw error;
    }
  }
}

/** @param {string} host @param {number} port @param {string} setting */
async function checkedPort(host, port, setting) {
  const server = createServer();
  try {
    server.listen({ host, port, exclusive: true });
    await once(server, 'listening');
    return port;
  } catch (cause) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (cause);
    throw code === 'EADDRINUSE'
      ? new SetupError(
          `port ${port} of ${host} is in use by another program`,
          `stop that program, or set ${setting} to a free port.`,
          { cause },
        )
      : new SetupError(
          `cannot listen on port ${port} of ${host}: ${message}`,
          `set ${setting} and the host to an address of this machine.`,
          { cause },
        );
  } finally {
    if (server.listening) {
      server.close();
      await once(server, 'close');
    }
  }
}
