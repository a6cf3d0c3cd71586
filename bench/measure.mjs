// A part of the benchmark in a process of its own, so that peak memory is that part's: forked by run.mjs.
import { configureKernels } from '../packages/tensor/dist/index.js';

const PARTS = {
  train: () => import('./parts/train.mjs'),
  growth: () => import('./parts/growth.mjs'),
  machine: () => import('./parts/machine.mjs'),
  profile: () => import('./parts/profile.mjs'),
  loading: () => import('./parts/loading.mjs'),
};

process.once('message', async (/** @type {{ part: keyof typeof PARTS, options: any }} */ { part, options }) => {
  configureKernels(options.kernels === 'raw' ? 'raw' : 'fused');
  const { measure } = await PARTS[part]();
  const result = await measure(options);
  process.send?.(result, undefined, {}, () => process.disconnect());
});
