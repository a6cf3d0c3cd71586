// Runs one part of the benchmark. run.mjs forks it for each part, so that the peak memory is that of the part.
import { chooseKernels } from '../../packages/tensor/dist/index.js';

/** @param {{ part: string, options: any }} task */
async function measureOne({ part, options }) {
  const kernels = chooseKernels(options.kernels === 'raw' ? 'raw' : 'fused');
  /** @type {Record<string, (options: any, kernels: any) => Promise<object>>} */
  const parts = await (part === 'train'
    ? import('./parts/train.mjs')
    : part === 'session'
      ? import('./parts/session.mjs')
      : import('./parts/engine.mjs'));
  const measure = parts[part];
  if (measure === undefined) throw new Error(`there is no part ${part}`);
  const result = await measure(options, kernels);
  process.send?.(result, undefined, {}, () => process.exit());
}

// The benchmark was interrupted.
process.once('disconnect', () => process.exit(130));
process.once('message', (/** @type {{ part: string, options: any }} */ task) => void measureOne(task));
