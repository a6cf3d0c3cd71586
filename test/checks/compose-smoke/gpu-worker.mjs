import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { BUILD_ENVIRONMENT, docker } from './docker.mjs';

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
async function trainWithImage(stack, { image, name, env = {} }, train) {
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

const EXIT_NO_GPU = 69;

/**
 * Checks an image of the GPU worker on a host without a GPU: it names what is missing, and trains with DEVICE=cpu.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {'cuda' | 'tensorflow'} gpu the engine that distinguishes the image
 * @param {() => Promise<string>} train trains a job and resolves with the name of its worker
 * @returns {Promise<string>} lines for the report
 */
export async function checkGpuRefusal(stack, gpu, train) {
  const image = stack.image(gpu === 'cuda' ? 'worker-gpu' : 'worker-gpu-tensorflow');
  const alone = ['--network', 'none', '--tmpfs', '/data:uid=1000,gid=1000'];
  const { code, output } = await docker(['run', '--rm', ...alone, ...HARDENED, image], { expectFailure: true });
  if (code !== EXIT_NO_GPU || !output.includes('driver:')) {
    throw new Error(`without a GPU the worker exited with ${code}, not ${EXIT_NO_GPU}:\n${output}`);
  }
  if (output.includes('library:')) throw new Error(`the image lacks a CUDA library:\n${output}`);

  await trainWithImage(stack, { image, name: `${stack.project}-gpu-image-on-cpu`, env: { DEVICE: 'cpu' } }, train);

  const composed = await stack.compose(['run', '--rm', '--no-deps', 'worker'], { gpu, expectFailure: true });
  if (composed.code === 0) throw new Error('docker compose started a GPU worker on a host without a GPU');
  const indent = (/** @type {string} */ text) =>
    text
      .trim()
      .split('\n')
      .map((line) => `      ${line}`)
      .join('\n');
  return `exit code ${code}; with DEVICE=cpu it trains a job\n${indent(output)}\n      docker compose, which passes on the GPU: ${composed.output.trim().split('\n').at(-1)}`;
}

const TARGET = 'worker-gpu-emulated';

/**
 * Checks that the GPU worker's image finds everything that it needs on a card: in a copy of it, emulations take the place of the
 * driver's library, where the container toolkit adds that, and of cuBLASLt.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {{ signal: AbortSignal, train: () => Promise<string> }} options `train`: trains a job and resolves with the name of
 *   its worker
 * @returns {Promise<string>} lines for the report
 */
export async function checkEmulatedGpu(stack, { signal, train }) {
  const image = stack.image(TARGET);
  const args = ['build', '--quiet', '--file', 'docker/Dockerfile', '--target', TARGET, '--tag', image, '.'];
  await docker(args, { cwd: ROOT_DIR, env: { ...process.env, ...BUILD_ENVIRONMENT }, signal });
  // The self-test at full size takes too long on an emulated card.
  const env = { GPU_SELF_TEST: 'small' };
  const log = await trainWithImage(stack, { image, name: `${stack.project}-emulated-gpu`, env }, train);
  const aboutTheEngine = log.split('\n').filter((line) => /self-test on this GPU|training on the GPU/.test(line));
  if (!aboutTheEngine.some((line) => line.includes('cuda'))) throw new Error(`it did not use the CUDA engine:\n${log}`);
  return aboutTheEngine.map((line) => line.slice(0, 300)).join('\n    ');
}
