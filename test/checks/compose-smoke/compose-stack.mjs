import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { BUILD_ENVIRONMENT, CPU_FILES, docker, GPU_FILES, neutralEnvironment, removeImages } from './docker.mjs';

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
