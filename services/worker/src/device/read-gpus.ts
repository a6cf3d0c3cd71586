import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface GpuReading {
  /** As the driver numbers it. */
  index: string;
  usedBytes: number;
  totalBytes: number;
  /** 0 to 1. */
  busyRatio: number;
}

const TIMEOUT_MS = 5_000;
const MEBIBYTE = 1024 ** 2;
const QUERY = ['--query-gpu=index,memory.used,memory.total,utilization.gpu', '--format=csv,noheader,nounits'];

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

/** Lines such as `0, 1024, 81559, 37`; a figure that the driver does not give (`[N/A]`) leaves its GPU out. */
export function parseGpus(text: string): GpuReading[] {
  return text.split('\n').flatMap((line) => {
    const [index = '', used, total, busy] = line.split(',').map((part) => part.trim());
    const [usedMib, totalMib, percent] = [used, total, busy].map((part) => (part ? Number(part) : Number.NaN));
    if (!/^\d{1,3}$/.test(index) || usedMib === undefined || totalMib === undefined || percent === undefined) return [];
    if (![usedMib, totalMib, percent].every(Number.isFinite)) return [];
    return [{ index, usedBytes: usedMib * MEBIBYTE, totalBytes: totalMib * MEBIBYTE, busyRatio: percent / 100 }];
  });
}
