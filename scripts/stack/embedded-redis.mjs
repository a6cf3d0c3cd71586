import { randomBytes } from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startProcess } from './managed-process.mjs';
import { availablePort } from './ports.mjs';
import { waitUntil } from './wait-until.mjs';

const GUARD_PROGRAM = fileURLToPath(new URL('redis-guard.mjs', import.meta.url));

/** Redis reads its append-only file before it answers: about a second per 100 MB. */
const READY_TIMEOUT_MS = 60_000;
const PING_TIMEOUT_MS = 1_000;

/**
 * Starts a Redis server for this stack only: on a free port of the loopback interface, with a new password for each run and
 * its data in `<dataDir>/redis`. Every write is in the append-only file within a second. Nothing is ever evicted: a full
 * queue must refuse jobs, not lose them.
 *
 * @param {{ serverFile: string, dataDir: string, env: NodeJS.ProcessEnv, signal?: AbortSignal | undefined }} options
 * @returns {Promise<{ url: string, process: import('./managed-process.mjs').ManagedProcess }>} once it answers
 * @throws {import('../setup/setup-error.mjs').SetupError} when it ends or does not answer in time
 */
export async function startEmbeddedRedis({ serverFile, dataDir, env, signal }) {
  const port = await availablePort('127.0.0.1', 0, 'REDIS_URL');
  const password = randomBytes(24).toString('hex');
  const redisDir = path.join(dataDir, 'redis');
  await mkdir(redisDir, { recursive: true });
  const configFile = path.join(redisDir, 'redis.conf');
  await writePrivately(configFile, configuration({ redisDir, port, password }));
  const server = startProcess({
    name: 'redis',
    program: GUARD_PROGRAM,
    args: [serverFile, configFile],
    env,
    logFile: path.join(dataDir, 'logs', 'redis.log'),
  });
  try {
    await waitUntil(() => answersPing(port, password), { process: server, timeoutMs: READY_TIMEOUT_MS, signal });
  } catch (error) {
    await server.stop(PING_TIMEOUT_MS);
    throw error;
  }
  return { url: `redis://:${password}@127.0.0.1:${port}`, process: server };
}

/** @param {{ redisDir: string, port: number, password: string }} settings */
function configuration({ redisDir, port, password }) {
  return [
    'bind 127.0.0.1',
    `port ${port}`,
    `requirepass ${password}`,
    'daemonize no',
    `dir ${JSON.stringify(redisDir)}`,
    'appendonly yes',
    'appendfsync everysec',
    'save ""',
    'maxmemory-policy noeviction',
    '',
  ].join('\n');
}

/** Readable only by its owner, because it contains the password. @param {string} file @param {string} content */
async function writePrivately(file, content) {
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.chmod(0o600);
    await handle.writeFile(content);
  } finally {
    await handle.close();
  }
}

/** @param {number} port @param {string} password @returns {Promise<boolean>} false while it starts or loads its file */
function answersPing(port, password) {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    let answer = '';
    socket.setTimeout(PING_TIMEOUT_MS, () => socket.destroy());
    socket.on('connect', () => socket.write(`AUTH ${password}\r\nPING\r\n`));
    socket.on('data', (chunk) => {
      answer += chunk.toString();
      if (answer.split('\r\n').length > 2) socket.destroy();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(answer === '+OK\r\n+PONG\r\n'));
  });
}
