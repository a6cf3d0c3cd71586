import { cp, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { docker, neutralEnvironment } from './docker.mjs';
import { runCommands } from './documented-commands.mjs';

/**
 * Simulates a host: a folder with the compose files and its own .env, and a Compose project with its own networks and volumes.
 *
 * @param {{ folder: string, project: string, settings: string, files?: Record<string, string>, signal: AbortSignal }} options
 *   `settings`: content of .env; `files`: contents of further files by name
 */
export async function createComposeHost({ folder, project, settings, files = {}, signal }) {
  await mkdir(folder, { recursive: true });
  await cp(path.join(ROOT_DIR, 'docker-compose.yml'), path.join(folder, 'docker-compose.yml'));
  await cp(path.join(ROOT_DIR, 'docker'), path.join(folder, 'docker'), { recursive: true });
  await writeFile(path.join(folder, '.env'), `COMPOSE_PROJECT_NAME=${project}\n${settings}`);
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  const options = { cwd: folder, env: neutralEnvironment() };
  return {
    project,
    /** @param {string[]} args */
    compose: (...args) => docker(['compose', ...args], { ...options, signal }),
    /** Runs commands of the documentation in its folder. @param {string} commands */
    run: (commands) => runCommands(commands, { ...options, signal }),
    /** The last log lines of its services. */
    logs: async () => (await docker(['compose', 'logs', '--tail', '20'], { ...options, expectFailure: true })).output,
    remove: () =>
      docker(['compose', 'down', '--volumes', '--remove-orphans', '--timeout', '10'], {
        ...options,
        expectFailure: true,
      }),
  };
}
