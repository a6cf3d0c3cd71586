import path from 'node:path';
import { NATIVE_DIR } from '../../../scripts/setup/native-build.mjs';

/** Stand-ins for the driver and cuBLASLt that compute on the CPU. */
const EMULATED_LIBRARIES = path.join(NATIVE_DIR, 'build/emulated');

/**
 * The environment of processes that compute with the CUDA engine.
 *
 * @param {{ env: NodeJS.ProcessEnv, isEmulated: boolean }} options
 * @returns {NodeJS.ProcessEnv}
 */
export function cudaEnvironment({ env, isEmulated }) {
  const libraries = isEmulated ? { CUDA_LIBRARY_DIR: EMULATED_LIBRARIES } : {};
  return { TF_CPP_MIN_LOG_LEVEL: '2', ...env, ENGINE: 'cuda', ...libraries };
}

/**
 * The environment of a stack whose worker trains on the CUDA engine, or on the CPU.
 *
 * @param {{ env: NodeJS.ProcessEnv, isEmulated: boolean, engine: 'cuda' | 'cpu' }} options
 * @returns {NodeJS.ProcessEnv}
 */
export function stackEnvironment({ env, isEmulated, engine }) {
  const { ENGINE: _, ...base } = cudaEnvironment({ env, isEmulated });
  if (engine === 'cpu') return { ...base, DEVICE: 'cpu' };
  return { ...base, DEVICE: 'gpu', GPU_ENGINE: 'cuda', ...(isEmulated ? { GPU_SELF_TEST: 'small' } : {}) };
}
