import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chown, cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDir, ROOT_DIR, toolEnvironment } from '../../../scripts/setup/locations.mjs';
import { publishFolder } from '../../../scripts/setup/publish-folder.mjs';
import { findOnPath } from '../../../scripts/setup/redis-server.mjs';
import { runCommand } from '../../../scripts/setup/run-command.mjs';

/** A release of each version of Node that the product supports. */
export const NODE_RELEASES = ['20.20.2', '22.23.3', '24.21.0', '26.12.1'];

const FSYNC_DELAY_MS = 300;
/** Ends with the hunt, even a killed one. */
const BUSY = 'for (const hunt = process.ppid; process.ppid === hunt; );';
const TSC = path.join(ROOT_DIR, 'node_modules/typescript/bin/tsc');

/**
 * The difference of a run from a plain one.
 *
 * @typedef {object} Setting
 * @property {string[]} [prefix] a command, such as `nice -n 19`, that starts the command behind it
 * @property {Record<string, string | undefined>} [env] undefined: the variable is not set
 * @property {string} [node] another program `node`
 * @property {string} [root] another folder with the repository
 * @property {string} [note] of this run, such as a seed
 * @property {() => Promise<void>} [end]
 *
 * @typedef {object} Condition
 * @property {string} what
 * @property {() => string | null} [hindrance] why this machine cannot have it
 * @property {(folder: string) => Promise<Setting>} begin `folder`: an empty one, removed after the run
 */

/** @type {Record<string, Condition>} */
export const CONDITIONS = {
  quiet: { what: 'nothing else runs', begin: async () => ({}) },
  busy: {
    what: 'every core has another busy process',
    begin: async () => ({ end: keepBusy(['-e', BUSY], availableParallelism()) }),
  },
  'one-core': {
    what: 'all processes share one core',
    hindrance: () => missing('taskset'),
    begin: async () => ({ prefix: ['taskset', '-c', '0'] }),
  },
  'nice-beside-build': {
    what: 'nice 19, while a build checks the types of the repository again and again, on all cores',
    hindrance: () => missing('nice'),
    begin: async () => ({
      prefix: ['nice', '-n', '19'],
      // One is enough: the compiler is parallel, and leaves little in between.
      end: keepBusy([TSC, '--project', 'tsconfig.test.json', '--incremental', 'false'], 1),
    }),
  },
  'slow-fsync': {
    what: `every fsync takes ${FSYNC_DELAY_MS} ms`,
    async begin(folder) {
      const library = path.join(folder, 'slow-fsync.so');
      const source = fileURLToPath(new URL('slow-fsync.c', import.meta.url));
      await runCommand(process.env.CC || 'gcc', ['-shared', '-fPIC', '-O2', source, '-o', library, '-ldl']);
      return { env: { LD_PRELOAD: library, FSYNC_DELAY_MS: String(FSYNC_DELAY_MS) } };
    },
  },
  'no-locale': { what: 'LANG and LC_* are not set', begin: async () => ({ env: withLocale({}) }) },
  'locale-c': { what: 'LC_ALL=C', begin: async () => ({ env: withLocale({ LC_ALL: 'C' }) }) },
  'locale-de': { what: 'LANG=de_DE.UTF-8', begin: async () => ({ env: withLocale({ LANG: 'de_DE.UTF-8' }) }) },
  'far-east': { what: 'TZ=Pacific/Kiritimati, UTC+14', begin: async () => ({ env: { TZ: 'Pacific/Kiritimati' } }) },
  'far-west': { what: 'TZ=Pacific/Pago_Pago, UTC-11', begin: async () => ({ env: { TZ: 'Pacific/Pago_Pago' } }) },
  'other-user': {
    what: 'not root, in a clone of its own',
    hindrance: () => (process.getuid?.() === 0 ? missing('setpriv') : 'only root can start processes of another user'),
    begin: cloneOfOtherUser,
  },
  'home-elsewhere': {
    what: 'HOME and TMPDIR are on a file system in memory',
    hindrance: () => (existsSync('/dev/shm') ? null : 'there is no /dev/shm'),
    async begin() {
      const home = await mkdtemp('/dev/shm/lorasmith-hunt-');
      const temporary = path.join(home, 'tmp');
      await mkdir(temporary);
      return {
        env: { HOME: home, TMPDIR: temporary, LORASMITH_CACHE_DIR: cacheDir(process.env) },
        end: () => rm(home, { recursive: true, force: true }),
      };
    },
  },
  shuffled: {
    what: 'files in a random order',
    async begin() {
      const seed = randomInt(2 ** 31);
      return { env: { TEST_SEED: String(seed) }, note: `seed ${seed}` };
    },
  },
  ...Object.fromEntries(NODE_RELEASES.map((release) => [`node-${release.split('.')[0]}`, onNode(release)])),
};

/**
 * One condition, or several at once.
 *
 * @param {string} names with + between them
 * @returns {Condition}
 */
export function conditionOf(names) {
  const all = names.split('+').map((name) => /** @type {Condition} */ (CONDITIONS[name]));
  const [only] = all;
  if (all.length === 1 && only !== undefined) return only;
  return {
    what: all.map(({ what }) => what).join('; '),
    hindrance: () => all.map(({ hindrance }) => hindrance?.() ?? null).find((one) => one !== null) ?? null,
    async begin(folder) {
      /** @type {Setting[]} */
      const settings = [];
      for (const { begin } of all) settings.push(await begin(folder));
      return {
        ...Object.assign({}, ...settings),
        prefix: settings.flatMap(({ prefix = [] }) => prefix),
        env: Object.assign({}, ...settings.map(({ env }) => env)),
        note: settings.flatMap(({ note }) => note ?? []).join(', '),
        async end() {
          for (const { end } of settings) await end?.();
        },
      };
    },
  };
}

/** @param {string} release @returns {Condition} */
function onNode(release) {
  return {
    what: `Node ${release}`,
    async begin() {
      const folder = await nodeFolder(release, process.env);
      return { node: path.join(folder, 'node'), env: { PATH: `${folder}:${process.env.PATH}` }, note: release };
    },
  };
}

/** @param {string} command @returns {string | null} */
function missing(command) {
  return findOnPath(command, process.env.PATH ?? '') === undefined ? `there is no ${command}` : null;
}

/** All variables of the locale but these unset. @param {Record<string, string>} set */
function withLocale(set) {
  const names = ['LANG', 'LANGUAGE', ...Object.keys(process.env).filter((name) => name.startsWith('LC_'))];
  return { ...Object.fromEntries(names.map((name) => [name, undefined])), ...set };
}

/**
 * Keeps processes of Node busy: each is started again when it ends.
 *
 * @param {string[]} args
 * @param {number} count of the processes
 * @returns {() => Promise<void>} ends them
 */
function keepBusy(args, count) {
  const running = new Set();
  let ended = false;
  const start = () => {
    if (ended) return;
    const child = spawn(process.execPath, args, { cwd: ROOT_DIR, stdio: 'ignore' });
    running.add(child);
    child.on('exit', () => {
      running.delete(child);
      start();
    });
  };
  for (let one = 0; one < count; one++) start();
  const end = () => {
    ended = true;
    for (const child of running) child.kill('SIGKILL');
  };
  process.once('exit', end);
  return async () => {
    process.off('exit', end);
    end();
  };
}

/** The files that set-up makes with the Python of this user, which the other one need not be allowed to run. */
const OF_ONE_USER = /^(openai-client|python-examples|schemathesis|chromium)-/;

/** Clones the repository with the changes of the working tree, copies the cache, gives both to another user and sets the clone up. @returns {Promise<Setting>} */
async function cloneOfOtherUser() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-other-user-'));
  const root = path.join(folder, 'clone');
  const env = await makeHome(folder);
  await runCommand('git', ['clone', '--quiet', '--no-hardlinks', ROOT_DIR, root]);
  await runCommand('/bin/sh', ['-c', `git ls-files -z | xargs -0 cp --parents -t "${root}"`], { cwd: ROOT_DIR });
  await mkdir(path.join(root, '.cache'));
  const ofThisUser = cacheDir(process.env);
  for (const name of await readdir(ofThisUser)) {
    if (OF_ONE_USER.test(name)) continue;
    await cp(path.join(ofThisUser, name), path.join(env.LORASMITH_CACHE_DIR, name), {
      recursive: true,
      verbatimSymlinks: true,
    });
  }
  await giveAway(folder);
  const [command = '', ...args] = [...AS_OTHER_USER, process.execPath, 'scripts/setup.mjs'];
  await runCommand(command, args, { cwd: root, env: { ...process.env, ...env } });
  const end = () => rm(folder, { recursive: true, force: true });
  return { prefix: AS_OTHER_USER, root, env: { ...env, MODELS_DIR: path.join(root, 'models') }, end };
}

/** The folder with the program `node` of a release, which comes from npm. @param {string} release @param {NodeJS.ProcessEnv} env */
export async function nodeFolder(release, env) {
  const name = `node-linux-${process.arch}`;
  const folder = path.join(cacheDir(env), `node-${release}`);
  await publishFolder(folder, async (partial) => {
    await writeFile(path.join(partial, 'package.json'), JSON.stringify({ private: true }));
    await runCommand('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${release}`], {
      cwd: partial,
      env: toolEnvironment(env),
    });
  });
  return path.join(folder, 'node_modules', name, 'bin');
}

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
