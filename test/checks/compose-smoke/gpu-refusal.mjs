import { docker } from './docker.mjs';
import { HARDENED, trainWithImage } from './gpu-worker.mjs';

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
