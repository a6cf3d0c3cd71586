import { setTimeout as sleep } from 'node:timers/promises';
import { docker } from './docker.mjs';

const HEALTHY_TIMEOUT_MS = 300_000;

/** The restrictions of a container in the compose file. */
export const HARDENED = ['--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL'];

/**
 * Runs a worker's image in the stack, without a GPU of the host, while a job is trained. The stack's own worker is stopped.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {{ image: string, name: string, env?: Record<string, string> }} options `name`: of the container and the worker
 * @param {() => Promise<string>} train trains a job and resolves with the name of its worker
 * @returns {Promise<string>} the container's log
 * @throws {Error} when it does not become healthy, or another worker trained the job
 */
export async function trainWithImage(stack, { image, name, env = {} }, train) {
  const settings = Object.entries({ REDIS_URL: 'redis://redis:6379', ...env }).flatMap(([variable, value]) => [
    '--env',
    `${variable}=${value}`,
  ]);
  const volumes = ['--volume', `${stack.project}_data:/data`, '--volume', `${stack.modelsDir}:/models:ro`];
  const network = ['--network', `${stack.project}_inside`, '--hostname', name];
  await stack.compose(['stop', 'worker']);
  await docker(['run', '--detach', '--name', name, ...network, ...HARDENED, ...settings, ...volumes, image]);
  try {
    const deadline = Date.now() + HEALTHY_TIMEOUT_MS;
    for (;;) {
      const { stdout } = await docker(['inspect', '--format', '{{.State.Health.Status}}', name]);
      if (stdout.trim() === 'healthy') break;
      if (stdout.trim() === 'unhealthy' || Date.now() > deadline) {
        throw new Error(`${name} is ${stdout.trim()}:\n${(await docker(['logs', name])).output}`);
      }
      await sleep(1_000);
    }
    const trainedBy = await train();
    const { output } = await docker(['logs', name]);
    if (trainedBy !== name) throw new Error(`the job was trained by ${trainedBy}:\n${output}`);
    return output;
  } finally {
    await docker(['rm', '--force', name], { expectFailure: true });
  }
}
