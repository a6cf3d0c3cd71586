import { chown, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';

/** The id of the user that the tests run as instead of root: `nobody` on every system. */
const OTHER_USER = 65_534;

/** A command that starts the command behind it as that user. Only root can. */
export const AS_OTHER_USER = ['setpriv', `--reuid=${OTHER_USER}`, `--regid=${OTHER_USER}`, '--clear-groups'];

/** Gives a folder with all that is in it to that user. @param {string} folder */
export async function giveAway(folder) {
  await chown(folder, OTHER_USER, OTHER_USER);
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isSymbolicLink()) await chown(path.join(entry.parentPath, entry.name), OTHER_USER, OTHER_USER);
  }
}

/**
 * Makes a home and a folder for temporary files.
 *
 * @param {string} folder in which they are made
 * @returns the variables that make them those of a user; undefined: the variable is not set
 */
export async function makeHome(folder) {
  const home = path.join(folder, 'home');
  const temporary = path.join(folder, 'tmp');
  for (const made of [home, temporary]) await mkdir(made);
  // What npm set for this process, such as the cache of its user.
  const ofNpm = Object.keys(process.env).filter((name) => /^npm_/i.test(name));
  return {
    ...Object.fromEntries(ofNpm.map((name) => [name, undefined])),
    HOME: home,
    TMPDIR: temporary,
    LORASMITH_CACHE_DIR: path.join(home, '.cache/lorasmith'),
    XDG_CACHE_HOME: undefined,
    MODELS_DIR: undefined,
  };
}
