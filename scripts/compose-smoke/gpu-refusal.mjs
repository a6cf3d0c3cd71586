import { setTimeout as sleep } from 'node:timers/promises';
import { docker } from './docker.mjs';

const EXIT_NO_GPU = 69;
const HEALTHY_TIMEOUT_MS = 180_000;

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
  const hardened = ['--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL'];
  const alone = ['--network', 'none', '--tmpfs', '/data:uid=1000,gid=1000'];
  const { code, output } = await docker(['run', '--rm', ...alone, ...hardened, image], { expectFailure: true });
  if (code !== EXIT_NO_GPU || !output.includes('driver:')) {
    throw new Error(`without a GPU the worker exited with ${code}, not ${EXIT_NO_GPU}:\n${output}`);
  }
  if (output.includes('library:')) throw new Error(`the image lacks a CUDA library:\n${output}`);

  const network = `${stack.project}_inside`;
  const name = `${stack.project}-gpu-image-on-cpu`;
  const settings = [
    '--env',
    'DEVICE=cpu',
    '--env',
    'REDIS_URL=redis://redis:6379',
    '--volume',
    `${stack.project}_data:/data`,
    '--volume',
    `${stack.modelsDir}:/models:ro`,
  ];
  // So that the other worker takes the job.
  await stack.compose(['stop', 'worker']);
  await docker([
    'run',
    '--detach',
    '--name',
    name,
    '--hostname',
    name,
    '--network',
    network,
    ...hardened,
    ...settings,
    image,
  ]);
  try {
    const deadline = Date.now() + HEALTHY_TIMEOUT_MS;
    for (;;) {
      const { stdout } = await docker(['inspect', '--format', '{{.State.Health.Status}}', name]);
      if (stdout.trim() === 'healthy') break;
      if (stdout.trim() === 'unhealthy' || Date.now() > deadline) {
        throw new Error(`with DEVICE=cpu it is ${stdout.trim()}:\n${(await docker(['logs', name])).output}`);
      }
      await sleep(1_000);
    }
    const trainedBy = await train();
    if (trainedBy !== name) throw new Error(`the job was trained by ${trainedBy}`);
  } finally {
    await docker(['rm', '--force', name], { expectFailure: true });
  }

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
