import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';
import { runCommand } from './run-command.mjs';
import { SetupError } from './run-steps.mjs';

const OLDEST_NODE = [20, 17];

/** @type {{ command: string, args: string[], what: string, remedy: string }[]} */
const TOOLS = [
  {
    command: 'python3',
    args: ['-m', 'pip', '--version'],
    what: 'Python 3 with pip',
    remedy: 'install both (on Debian and Ubuntu: apt-get install python3 python3-pip).',
  },
  {
    command: 'g++',
    args: ['--version'],
    what: 'a C++ compiler (g++)',
    remedy: 'install one (on Debian and Ubuntu: apt-get install g++).',
  },
  {
    command: 'make',
    args: ['--version'],
    what: 'make',
    remedy: 'install it (on Debian and Ubuntu: apt-get install make).',
  },
];

/** @param {NodeJS.ProcessEnv} env @returns {import('./run-steps.mjs').Step} */
export function prerequisitesStep(env) {
  return {
    name: 'Node, Python and compiler',
    async run() {
      checkNodeVersion(process.versions.node);
      checkPlatform(process.platform, process.arch);
      for (const { command, args, what, remedy } of TOOLS) {
        await runCommand(command, args, { env }).catch((cause) => {
          throw new SetupError(`${what} is missing: ${cause.message}`, remedy, { cause });
        });
      }
      return `Node ${process.versions.node}, python3, g++ and make are there`;
    },
  };
}

/**
 * @param {string} version such as `20.20.2`
 * @throws {SetupError} for a version that the engine does not run on
 */
export function checkNodeVersion(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new SetupError(
    `this is Node ${version}; Lorasmith needs Node ${OLDEST_NODE.join('.')} or later`,
    'install a later Node, such as 24, and run the same command with it.',
  );
}

/**
 * @param {string} platform
 * @param {string} arch
 * @throws {SetupError} where no pinned TensorFlow library exists
 */
export function checkPlatform(platform, arch) {
  if (platform === 'linux' && (arch === 'x64' || arch === 'arm64')) return;
  throw new SetupError(
    `this is ${platform} on ${arch}; Lorasmith runs on Linux (glibc), on x64 and arm64`,
    'run it on such a machine, or in a Linux container or virtual machine.',
  );
}

/** Files of a checkout that is set up; the library is a link into the cache of the user who has set it up. */
const STAMP = 'node_modules/.lorasmith-install';
const LIBRARY = 'packages/tensor/node_modules/@tensorflow/tfjs-node-gpu/deps/lib/libtensorflow.so';
const COMPILED = ['services/api/dist/main.js', 'services/worker/dist/main.js', 'services/registry/dist/main.js'];

/** @returns {boolean} true if this user may write the checkout, as set-up does */
export function mayWriteCheckout() {
  try {
    accessSync(ROOT_DIR, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Checks that another user, or this one before the checkout became read-only, has set it up so that this user can run it.
 *
 * @param {string} [rootDir]
 * @throws {SetupError} in one line, with what its owner must do
 */
export function checkSetUpByOwner(rootDir = ROOT_DIR) {
  const missing = [STAMP, ...COMPILED].find((file) => !existsSync(path.join(rootDir, file)));
  if (missing) {
    throw new SetupError(
      `${rootDir} cannot be written by this user, and is not set up (${missing} is missing)`,
      'run npm run setup there as its owner, or make a checkout of your own.',
    );
  }
  try {
    accessSync(path.join(rootDir, LIBRARY), constants.R_OK);
  } catch (cause) {
    throw new SetupError(
      `${rootDir} was set up by another user, whose cache this user cannot read (TensorFlow is in it)`,
      'run npm run setup there again as its owner, with LORASMITH_CACHE_DIR in a folder that both can read, such as /var/cache/lorasmith; or make a checkout of your own.',
      { cause },
    );
  }
}
