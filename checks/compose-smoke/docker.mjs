import { spawn } from 'node:child_process';

/** Compose files of a stack without a GPU, relative to the repository. */
export const CPU_FILES = ['docker-compose.yml', 'docker/compose.cpu.yml'];
/** Those of a stack on GPUs, by the engines in the worker's image. */
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

/** Removes the images of a stack. The engine's build cache remains. @param {string} tag */
export async function removeImages(tag) {
  const list = ['image', 'ls', '--quiet', '--filter', `reference=lorasmith-*:${tag}`];
  const { stdout } = await docker(list, { expectFailure: true });
  const images = [...new Set(stdout.split('\n').filter(Boolean))];
  if (images.length > 0) await docker(['image', 'rm', '--force', ...images], { expectFailure: true });
}
