import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { link, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { processStartTime } from '../setup/publish-folder.mjs';
import { SetupError } from '../setup/run-steps.mjs';
import { startProcess, waitUntil } from './managed-process.mjs';
import { availablePort } from './ports.mjs';

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
 * @throws {SetupError} when it ends or does not answer in time
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

const STOP_TIMEOUT_MS = 15_000;

/**
 * Calls `run` with the Redis of a data folder: that of a running stack, or else one that is started for this call and stopped
 * afterwards.
 *
 * @template Result
 * @param {{ dataDir: string, redis: import('../setup/redis-server.mjs').RedisSource, env: NodeJS.ProcessEnv }} options
 * @param {(redisUrl: string) => Promise<Result>} run
 * @returns {Promise<Result>}
 * @throws {SetupError}
 */
export async function withRedisOf({ dataDir, redis, env }, run) {
  if ('url' in redis) return await run(redis.url);
  const unlock = await lockDataDir(dataDir).catch((error) => {
    if (error instanceof SetupError && error.message.includes('is in use by')) return undefined;
    throw error;
  });
  if (!unlock) return await run(await addressInUse(dataDir));
  try {
    const { url, process: server } = await startEmbeddedRedis({ serverFile: redis.serverFile, dataDir, env });
    try {
      return await run(url);
    } finally {
      await server.stop(STOP_TIMEOUT_MS);
    }
  } finally {
    await unlock();
  }
}

/** Reads the address of a running stack's Redis from the configuration that the stack wrote. @param {string} dataDir */
async function addressInUse(dataDir) {
  const file = path.join(dataDir, 'redis', 'redis.conf');
  const text = await readFile(file, 'utf8').catch(() => '');
  const port = /^port (\d+)$/m.exec(text)?.[1];
  const password = /^requirepass (\S+)$/m.exec(text)?.[1];
  if (port && password) return `redis://:${password}@127.0.0.1:${port}`;
  throw new SetupError(
    `the stack that uses ${dataDir} uses its own Redis, whose address is not in ${file}`,
    'set REDIS_URL to that Redis.',
  );
}

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

const LOCK_NAME = 'stack.lock';

/**
 * Locks the data folder against a second stack: two Redis servers on one append-only file would destroy it.
 *
 * @param {string} dataDir is created if it is missing
 * @returns {Promise<() => Promise<void>>} releases the lock
 * @throws {SetupError} when a running stack has it, or the folder is not writable
 */
export async function lockDataDir(dataDir) {
  const lockFile = path.join(dataDir, LOCK_NAME);
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const holder = await readFile(lockFile, 'utf8').catch(() => '');
    const [pid = '', startTime = ''] = holder.split(' ');
    if (startTime !== '' && (await processStartTime(pid)) === startTime) {
      throw new SetupError(
        `${dataDir} is in use by another Lorasmith stack (process ${pid})`,
        'stop that one first, or set DATA_DIR to another folder.',
      );
    }
    // The holder has ended without removing the file.
    if (holder) await rm(lockFile, { force: true });
    // Written to another file and then linked, so that an existing lock file always names its holder.
    const ownFile = `${lockFile}-${process.pid}`;
    await writeFile(ownFile, `${process.pid} ${await processStartTime(process.pid)}`);
    try {
      await link(ownFile, lockFile);
    } finally {
      await rm(ownFile, { force: true });
    }
  } catch (cause) {
    if (cause instanceof SetupError) throw cause;
    throw new SetupError(
      `the data folder ${dataDir} cannot be used: ${/** @type {Error} */ (cause).message}`,
      'set DATA_DIR to a folder that you can write.',
      { cause },
    );
  }
  return () => rm(lockFile, { force: true });
}
