import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface GpuReading {
  /** As the driver numbers it. */
  index: string;
  /** Such as `GPU-8f6b…`; unlike the index it stays the card's own. */
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

/**
 * What the driver's own program says of the GPUs; the container toolkit brings it along. Asking the engine instead would
 * make a process with a GPU context of its own.
 *
 * @returns nothing where the program is not there or does not answer
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
 * Lines such as `0, GPU-8f6b…, NVIDIA A10G, 1024, 23028, 37`; a figure that the driver does not give (`[N/A]`) leaves its
 * GPU out. One cut into MIG instances has no utilization, and its memory is that of no instance.
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
