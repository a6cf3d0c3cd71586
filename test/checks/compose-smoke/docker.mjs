import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { SetupError } from '../../../scripts/setup/run-steps.mjs';

/** Compose files of a stack without a GPU, relative to the repository. */
export const CPU_FILES = ['docker-compose.yml', 'docker/compose.cpu.yml'];
/** The compose files of a stack on GPUs, by the engines in the worker's image. */
const GPU_FILES = {
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

/** Services that receive the settings of .env. */
const SERVICES = ['api', 'registry', 'worker', 'puller'];

/** The limit for a host whose cores are busy: a service there needs half a minute to start. */
const HEALTHY_TIMEOUT_MS = 300_000;

/**
 * A stack with its own name, images and volumes. It does not affect other containers of the engine.
 *
 * @typedef {Awaited<ReturnType<typeof createComposeStack>>} ComposeStack
 */

/**
 * @param {{ apiPort: number, modelsDir: string, settings: Record<string, string>, signal: AbortSignal }} options `settings`:
 *   further lines of its .env
 */
export async function createComposeStack({ apiPort, modelsDir, settings, signal }) {
  const project = `lorasmith-smoke-${process.pid}`;
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-compose-'));
  const envFile = path.join(folder, 'env');
  const lines = { API_PORT: apiPort, MODELS_DIR: modelsDir, LORASMITH_TAG: project, ...settings };
  await writeFile(
    envFile,
    Object.entries(lines)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
  // Like the .env beside docker-compose.yml, it is for Compose and for the services.
  const envForServices = path.join(folder, 'env-for-services.yml');
  const services = Object.fromEntries(SERVICES.map((name) => [name, { env_file: [envFile] }]));
  await writeFile(envForServices, JSON.stringify({ services }));
  const env = { ...neutralEnvironment(), ...BUILD_ENVIRONMENT };
  const base = ['compose', '--project-name', project, '--env-file', envFile];
  const withFiles = (/** @type {string[]} */ files) => [
    ...base,
    ...[...files, envForServices].flatMap((file) => ['-f', file]),
  ];
  const onCpu = withFiles(CPU_FILES);

  /**
   * @param {string[]} args
   * @param {{ gpu?: 'cuda' | 'tensorflow' | undefined, expectFailure?: boolean, env?: NodeJS.ProcessEnv }} [options] `gpu`:
   *   default, without one
   */
  const compose = (args, { gpu, ...rest } = {}) =>
    docker([...(gpu ? withFiles(GPU_FILES[gpu]) : onCpu), ...args], {
      cwd: ROOT_DIR,
      signal,
      ...rest,
      env: { ...env, ...rest.env },
    });

  /**
   * @param {string[]} options of `docker compose ps`
   * @returns {Promise<Record<'Service' | 'ID' | 'Health' | 'Status', string>[]>} the containers of the stack
   */
  const listed = async (...options) => {
    const { stdout } = await compose(['ps', ...options, '--format', 'json']);
    return stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  };

  return {
    project,
    modelsDir,
    apiUrl: `http://127.0.0.1:${apiPort}`,
    compose,
    /** The environment in which `docker compose` uses this stack, in any folder. */
    shellEnvironment: {
      ...env,
      COMPOSE_PROJECT_NAME: project,
      COMPOSE_ENV_FILES: envFile,
      COMPOSE_FILE: [...CPU_FILES.map((file) => path.join(ROOT_DIR, file)), envForServices].join(':'),
    },
    /** @param {string} name `api`, `registry`, `worker-cpu`, `worker-gpu` or `worker-gpu-tensorflow` */
    image: (name) => `lorasmith-${name}:${project}`,
    /** Starts all stopped services and waits until they are healthy. @param {string[]} args */
    up: (...args) => compose(['up', '--detach', '--wait', '--wait-timeout', '300', '--no-build', ...args]),
    /**
     * Waits until every container is healthy, also one that is not while another restarts: `up --wait` gives up on it.
     */
    async healthy() {
      const deadline = Date.now() + HEALTHY_TIMEOUT_MS;
      for (;;) {
        const waiting = (await listed('--all')).filter(({ Health }) => Health !== 'healthy');
        if (waiting.length === 0) return;
        if (Date.now() > deadline)
          throw new Error(waiting.map(({ Service, Status }) => `${Service}: ${Status}`).join(', '));
        await sleep(1_000);
      }
    },
    /** @returns {Promise<{ service: string, id: string }[]>} the running containers */
    async containers() {
      return (await listed()).map(({ Service, ID }) => ({ service: Service, id: ID }));
    },
    /** The last log lines of every service, to explain a failure. */
    async logs() {
      return (await docker([...onCpu, 'logs', '--tail', '15'], { cwd: ROOT_DIR, env, expectFailure: true })).output;
    },
    /** Removes containers, networks, volumes and images. */
    async remove() {
      const options = { cwd: ROOT_DIR, env, expectFailure: true };
      await docker([...onCpu, 'down', '--volumes', '--remove-orphans', '--timeout', '10'], options);
      await removeImages(project);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
