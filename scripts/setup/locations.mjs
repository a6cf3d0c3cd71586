import { accessSync, constants, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError } from './run-steps.mjs';

/** The repository's root. */
export const ROOT_DIR = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/**
 * The folders of packages and services, such as `packages/queue`, sorted. A folder that was a package may still have what was compiled
 * there: it has no manifest, and does not count.
 *
 * @param {string} [root] of a repository
 */
export function packageFolders(root = ROOT_DIR) {
  return ['packages', 'services'].flatMap((group) =>
    readdirSync(path.join(root, group))
      .map((name) => `${group}/${name}`)
      .filter((folder) => existsSync(path.join(root, folder, 'package.json')))
      .sort(),
  );
}

/**
 * The folder for downloads and compiled parts, shared between runs and clones: `LORASMITH_CACHE_DIR`, else
 * `$XDG_CACHE_HOME/lorasmith`, else `~/.cache/lorasmith`. It is created if it is missing.
 *
 * @param {NodeJS.ProcessEnv} env
 * @throws {SetupError} when the folder cannot be created or written
 */
export function cacheDir(env) {
  const chosen =
    env.LORASMITH_CACHE_DIR ||
    (env.XDG_CACHE_HOME ? path.join(env.XDG_CACHE_HOME, 'lorasmith') : path.join(homedir(), '.cache', 'lorasmith'));
  const folder = path.resolve(chosen);
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw new SetupError(
      `the cache folder ${folder} cannot be written (${/** @type {Error} */ (cause).message})`,
      'set LORASMITH_CACHE_DIR to a folder that you can write.',
      { cause },
    );
  }
  return folder;
}

/**
 * The environment for npm, pnpm, pip and node-gyp. They store files in the home folder. A user without a writable one, as in
 * some containers, gets one inside the cache.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {NodeJS.ProcessEnv}
 */
export function toolEnvironment(env) {
  try {
    accessSync(homedir(), constants.W_OK);
    return env;
  } catch {
    const home = path.join(cacheDir(env), 'home');
    mkdirSync(home, { recursive: true });
    return { ...env, HOME: home, npm_config_cache: path.join(home, '.npm') };
  }
}
