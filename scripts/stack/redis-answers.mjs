import { once } from 'node:events';
import { connect } from 'node:net';
import { SetupError } from '../setup/setup-error.mjs';

const CONNECT_TIMEOUT_MS = 5_000;
const DEFAULT_PORT = 6379;

/**
 * Checks that something listens at the address of a Redis, before any service waits for it. What it is, the services find out.
 *
 * @param {string} url `redis://`, `rediss://` or `unix://`
 * @throws {SetupError} that names the address, without its password
 */
export async function checkRedisAnswers(url) {
  const { protocol, hostname, port, pathname } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
  const address =
    protocol === 'unix:' ? { path: decodeURIComponent(pathname) } : { host, port: Number(port || DEFAULT_PORT) };
  const shown = protocol === 'unix:' ? `unix://${pathname}` : `${protocol}//${hostname}:${address.port}`;
  const socket = connect(address);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
  } catch (cause) {
    const { code, name, message } = /** @type {NodeJS.ErrnoException} */ (cause);
    const why = name === 'AbortError' ? `no answer within ${CONNECT_TIMEOUT_MS / 1_000} s` : (code ?? message);
    throw new SetupError(
      `Redis at ${shown} cannot be reached (${why})`,
      'start it, or correct REDIS_URL. Without REDIS_URL, a Redis is started with the service.',
      { cause },
    );
  } finally {
    socket.destroy();
  }
}
