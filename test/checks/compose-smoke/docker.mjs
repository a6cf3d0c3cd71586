import { execFile, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { SetupError } from '../../../scripts/setup/run-steps.mjs';

/** Compose files of a stack without a GPU, relative to the repository. */
export const CPU_FILES = ['docker-compose.yml', 'docker/compose.cpu.yml'];
/** The compose files of a stack on GPUs, by the engines in the worker's image. */
export const GPU_FILES = {
  cuda: ['docker-compose.yml'],
  tensorflow: ['docker-compose.yml', 'docker/compose.tensorflow.yml'],
};

/** Images are built one at a time. */
export const BUILD_ENVIRONMENT = { DOCKER_BUILDKIT: '1', COMPOSE_PARALLEL_LIMIT: '1' };

/** Variables of the shell that would override those of .env. */
const OF_COMPOSE = /^(COMPOSE|REDIS|S3|AWS|API|HF)_|^(STORE|DEVICE|GPU_ENGINE|MODELS_DIR|DATA_DIR|LORASMITH_TAG)$/;

/** The environment of this process without variables that would override the settings of a stack. @returns {NodeJS.ProcessEnv} */
export function neutralEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !OF_COMPOSE.test(name)));
}

/**
 * @typedef {object} CommandResult
 * @property {number} code
 * @property {string} stdout
 * @property {string} output standard output and standard error together
 */

/**
 * Runs docker and returns its output.
 *
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, cwd?: string, expectFailure?: boolean, signal?: AbortSignal | undefined }} [options]
 *   `expectFailure`: do not throw if it fails
 * @returns {Promise<CommandResult>}
 * @throws {Error} with its last output lines, when it fails
 */
export async function docker(args, { env = process.env, cwd, expectFailure = false, signal } = {}) {
  // In its own process group, so that Ctrl-C reaches only this script, which then stops everything in order.
  const child = spawn('docker', args, { env, cwd, signal, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const kept = { stdout: '', output: '' };
  child.stdout.on('data', (/** @type {Buffer} */ chunk) => {
    kept.stdout += chunk;
    kept.output += chunk;
  });
  child.stderr.on('data', (/** @type {Buffer} */ chunk) => {
    kept.output += chunk;
  });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode) => resolve(exitCode ?? 1));
  });
  if (code !== 0 && !expectFailure) {
    const tail = kept.output.trimEnd().split('\n').slice(-25).join('\n');
    throw new Error(`docker ${args.join(' ')} exited with ${code}:\n${tail}`);
  }
  return { code, ...kept };
}

/** The tools that the machine must have, each with the command that shows it. */
const NEEDED = [
  {
    args: ['version', '--format', '{{.Server.Version}}'],
    what: 'a Docker engine',
    remedy: 'install Docker, start its engine, and let this user reach it: `docker version` must name a server.',
  },
  {
    args: ['compose', 'version', '--short'],
    what: 'Docker Compose',
    remedy: 'install Compose 2.24 or later (the package docker-compose-plugin).',
    oldest: [2, 24],
  },
  {
    args: ['buildx', 'version'],
    what: 'Docker Buildx',
    remedy: 'install it (the package docker-buildx-plugin): it builds the images.',
  },
];

/**
 * Checks that images can be built and stacks started here.
 *
 * @throws {SetupError} naming what is missing or too old
 */
export async function checkDocker() {
  for (const { args, what, remedy, oldest } of NEEDED) {
    const { stdout } = await docker(args).catch((cause) => {
      const said = args[0] === 'version' ? cause.message.trimEnd().split('\n').at(-1) : `there is no docker ${args[0]}`;
      const why = cause.code === 'ENOENT' ? 'there is no command docker' : said;
      throw new SetupError(`${what} is missing: ${why}`, remedy, { cause });
    });
    // A version without numbers is that of somebody's own build.
    const [major, minor] = (/(\d+)\.(\d+)/.exec(stdout) ?? []).slice(1).map(Number);
    if (oldest === undefined || major === undefined || minor === undefined) continue;
    const [oldestMajor = 0, oldestMinor = 0] = oldest;
    if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor))
      throw new SetupError(`${what} is too old: ${stdout.trim()}`, remedy);
  }
}

/** Removes the images of a stack. The engine's build cache remains. @param {string} tag */
export async function removeImages(tag) {
  const list = ['image', 'ls', '--quiet', '--filter', `reference=lorasmith-*:${tag}`];
  const { stdout } = await docker(list, { expectFailure: true });
  const images = [...new Set(stdout.split('\n').filter(Boolean))];
  if (images.length > 0) await docker(['image', 'rm', '--force', ...images], { expectFailure: true });
}

const FENCE = /^```sh\n([\s\S]*?)^```$/gm;

/**
 * The first block of commands after a text in a page of the documentation.
 *
 * @param {string} after the text before the commands
 * @param {string} [name] the page
 * @returns {Promise<string>}
 * @throws {Error} when there are none
 */
export async function documentedCommands(after, name = 'docs/operations.md') {
  const page = await readFile(path.join(ROOT_DIR, name), 'utf8');
  const from = page.indexOf(after);
  const [block] = from === -1 ? [] : page.slice(from).matchAll(FENCE);
  if (block?.[1] === undefined) throw new Error(`${name} has no commands after ${JSON.stringify(after)}`);
  return block[1];
}

/**
 * Runs commands in bash, in the given folder. The first failure stops them.
 *
 * @param {string} commands
 * @param {{ cwd: string, env: NodeJS.ProcessEnv, signal: AbortSignal }} options
 * @returns {Promise<string>} their standard output
 */
export async function runCommands(commands, options) {
  const script = `set -o errexit -o pipefail\n${commands}`;
  const { stdout } = await promisify(execFile)('bash', ['-c', script], { ...options, maxBuffer: 2 ** 26 });
  return stdout;
}
