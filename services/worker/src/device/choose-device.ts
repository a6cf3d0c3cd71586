import { NO_GPU_EXIT_CODE } from '@lorasmith/engine-host';
import type { Logger } from 'pino';
import { gpuFaults } from './gpu-faults.js';
import { gpuDeviceFiles, lookForGpu } from './look-for-gpu.js';

/** What to train on: `auto` is the GPU where the engine can use one. */
export type RequestedDevice = 'auto' | 'gpu' | 'cpu';

/** What trainers compute with. */
export type Device = 'gpu' | 'cpu';

export interface ChooseDeviceOptions {
  requested: RequestedDevice;
  /** What trainers will inherit. */
  environment: NodeJS.ProcessEnv;
  /** The compiled `probe-gpu-main`. */
  probeProgram: string;
  log: Logger;
}

/** A GPU was asked for and there is none; the message says what is missing. */
export class NoGpuError extends Error {
  readonly exitCode = NO_GPU_EXIT_CODE;
}

/**
 * Decides once, when the worker starts, what its trainers compute with. TensorFlow itself silently falls back to the CPU,
 * and a job would then take a hundred times as long.
 *
 * @throws NoGpuError when `gpu` was asked for and the engine does not see one
 */
export async function chooseDevice({
  requested,
  environment,
  probeProgram,
  log,
}: ChooseDeviceOptions): Promise<Device> {
  if (requested === 'cpu') return 'cpu';
  // Loading the engine takes seconds, which a machine without a GPU is spared.
  if (requested === 'auto' && (await gpuDeviceFiles()).length === 0) {
    log.info({ device: 'cpu' }, 'training on the CPU: this machine has no NVIDIA GPU');
    return 'cpu';
  }
  const faults = gpuFaults(await lookForGpu(probeProgram, environment));
  if (faults.length === 0) {
    log.info({ device: 'gpu' }, 'training on the GPU');
    return 'gpu';
  }
  if (requested === 'gpu') {
    const list = faults.map((fault) => `  ${fault}\n`).join('');
    throw new NoGpuError(`The engine sees no GPU, and DEVICE is gpu.\n${list}DEVICE=cpu trains on the CPU instead.`);
  }
  log.warn({ device: 'cpu', faults }, 'training on the CPU: the engine does not see the GPU of this machine');
  return 'cpu';
}
