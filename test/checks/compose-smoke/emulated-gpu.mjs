import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { BUILD_ENVIRONMENT, docker } from './docker.mjs';
import { trainWithImage } from './gpu-worker.mjs';

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
