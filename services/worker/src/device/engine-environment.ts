import path from 'node:path';
import type { EngineKind } from '@lorasmith/contracts';
import { COUNT_AS_DRIVER } from './read-gpus.js';

/** Names the folder of TensorFlow's GPU build, where an image has it beside its CPU build. */
export const TENSORFLOW_GPU_DIR = 'TENSORFLOW_GPU_DIR';
/** The products that an adapter is a part of; read by packages/tensor. */
export const GPU_LORA_MARGIN = 'GPU_LORA_MARGIN';

/** The environment of a process that computes with this engine. `ENGINE` is read by packages/tensor. */
export function engineEnvironment(kind: EngineKind, base: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  switch (kind) {
    case 'cpu':
      // Without this TensorFlow's GPU build would take a GPU that it is not to use, and nearly all of its memory.
      return { ...base, ENGINE: kind, CUDA_VISIBLE_DEVICES: '-1' };
    case 'cuda':
      return { ...COUNT_AS_DRIVER, ...base, ENGINE: kind };
    case 'tensorflow':
      // Float32 products are to be exact to float32, as they are on the other engines.
      return { ...COUNT_AS_DRIVER, ...withGpuBuild(base), ENGINE: kind, NVIDIA_TF32_OVERRIDE: '0' };
  }
}

/** Its libraries have the names of the CPU build's, and the dynamic linker takes what it finds first. */
function withGpuBuild(base: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const folder = base[TENSORFLOW_GPU_DIR];
  if (!folder) return base;
  const libraries = [path.join(folder, 'lib'), base.LD_LIBRARY_PATH].filter(Boolean).join(':');
  return { ...base, LD_LIBRARY_PATH: libraries };
}
