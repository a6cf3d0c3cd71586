import type { GpuReading } from './read-gpus.js';

/** CUDA counts by speed, unless it is told to count as the driver does. */
export const COUNT_AS_DRIVER = { CUDA_DEVICE_ORDER: 'PCI_BUS_ID' };

/**
 * What of a GPU no tensor gets: TensorFlow leaves 1.5 GiB to the system from compute capability 8 on (1 GiB at 7, half a
 * GiB below), and the context with its kernels takes some hundred MB before TensorFlow looks how much there is.
 */
export const RESERVED_BYTES = 2 * 1024 ** 3;

/**
 * The GPU that trainers compute with: the first that `CUDA_VISIBLE_DEVICES` names, by number or by UUID, else the first.
 *
 * @returns undefined where the driver told nothing of it
 */
export function gpuInUse(gpus: readonly GpuReading[], visibleDevices = ''): GpuReading | undefined {
  const [first = ''] = visibleDevices.split(',').map((device) => device.trim());
  if (first === '') return gpus[0];
  // CUDA takes the beginning of a UUID, too.
  return gpus.find(({ index, uuid }) => index === first || (first.startsWith('GPU-') && uuid.startsWith(first)));
}
