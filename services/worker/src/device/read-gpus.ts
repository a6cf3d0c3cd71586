import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface GpuReading {
  /** The driver's number of it. */
  index: string;
  /** Such as `GPU-8f6b…`; unlike the index it never changes. */
  uuid: string;
  /** The model, such as `NVIDIA A10G`. */
  name: string;
  usedBytes: number;
  totalBytes: number;
  /** 0 to 1. */
  busyRatio: number;
}

const TIMEOUT_MS = 5_000;
const MEBIBYTE = 1024 ** 2;
const QUERY = ['--query-gpu=index,uuid,name,memory.used,memory.total,utilization.gpu', '--format=csv,noheader,nounits'];

/** CUDA numbers GPUs by speed unless this asks for the numbers of the driver. */
export const COUNT_AS_DRIVER = { CUDA_DEVICE_ORDER: 'PCI_BUS_ID' };

/**
 * The memory of a GPU that tensors cannot use: TensorFlow leaves 1.5 GiB to the system from compute capability 8 on (1 GiB
 * at 7, half a GiB below), and the context with its kernels takes some hundred MB before TensorFlow looks what is free.
 */
export const TENSORFLOW_RESERVED_BYTES = 2 * 1024 ** 3;

/** The same for the CUDA engine: the driver's context, its kernels, and the workspace of cuBLASLt. */
export const CUDA_RESERVED_BYTES = 1024 ** 3;

/**
 * The GPU that trainers compute with: the first that `CUDA_VISIBLE_DEVICES` names, by number or by UUID, else the first.
 *
 * @returns undefined where the driver reports none such
 */
export function gpuInUse(gpus: readonly GpuReading[], visibleDevices = ''): GpuReading | undefined {
  const [first = ''] = visibleDevices.split(',').map((device) => device.trim());
  if (first === '') return gpus[0];
  // CUDA accepts the beginning of a UUID, too.
  return gpus.find(({ index, uuid }) => index === first || (first.startsWith('GPU-') && uuid.startsWith(first)));
}

/**
 * The report of the driver's own program about the GPUs; the container toolkit installs it. Asking the engine instead
 * would make a process with a GPU context of its own.
 *
 * @returns nothing where the program is missing or does not answer
 */
export async function readGpus(program = 'nvidia-smi'): Promise<GpuReading[]> {
  try {
    const { stdout } = await promisify(execFile)(program, QUERY, { timeout: TIMEOUT_MS });
    return parseGpus(stdout);
  } catch {
    return [];
  }
}

/**
 * Lines such as `0, GPU-8f6b…, NVIDIA A10G, 1024, 23028, 37`; a GPU with a figure that the driver does not
 * give (`[N/A]`) is left out. One cut into MIG instances has no utilization, and its memory is that of no instance.
 */
export function parseGpus(text: string): GpuReading[] {
  return text.split('\n').flatMap((line) => {
    const [index = '', uuid = '', name = '', ...figures] = line.split(',').map((part) => part.trim());
    const [usedMib, totalMib, percent] = figures.map((part) => (part ? Number(part) : Number.NaN));
    if (!/^\d{1,3}$/.test(index) || usedMib === undefined || totalMib === undefined || percent === undefined) return [];
    if (![usedMib, totalMib, percent].every(Number.isFinite)) return [];
    return [
      { index, uuid, name, usedBytes: usedMib * MEBIBYTE, totalBytes: totalMib * MEBIBYTE, busyRatio: percent / 100 },
    ];
  });
}
