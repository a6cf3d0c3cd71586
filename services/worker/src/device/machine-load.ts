import { execFile } from 'node:child_process';
import { cpus, totalmem } from 'node:os';
import { promisify } from 'node:util';
import type { Card, MachineLoad } from '@lorasmith/contracts';

export interface WatchLoadOptions {
  /** The GPU that trainers compute with; null: none. */
  card: Pick<Card, 'uuid'> | null;
  /** Time from the end of a reading to the next. @defaultValue 3 000 */
  everyMs?: number;
  /** @defaultValue the driver's own program */
  gpus?: typeof readGpus;
}

/** The load of a machine, read again and again. */
export interface LoadWatch {
  /** The last reading; null before the first. */
  latest: () => MachineLoad | null;
  stop(): void;
}

/** Reads how busy the machine is: processor, memory, and its GPU. What cannot be read is left out; nothing throws. */
export function watchLoad({ card, everyMs = 3_000, gpus = readGpus }: WatchLoadOptions): LoadWatch {
  let latest: MachineLoad | null = null;
  let before = processorTimes();
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  const read = async () => {
    const now = processorTimes();
    const loadOfCard = card === null ? null : await loadOf(card, gpus);
    const processor = busyShare(before, now);
    before = now;
    latest = { read_at: new Date().toISOString(), processor_busy: processor, ...hostMemory(), card: loadOfCard };
    next();
  };
  const next = () => {
    if (isStopped) return;
    timer = setTimeout(() => void read(), everyMs);
    timer.unref();
  };
  next();
  return {
    latest: () => latest,
    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}

/** The time of all cores so far, in milliseconds. */
export interface ProcessorTimes {
  busy: number;
  all: number;
}

function processorTimes(): ProcessorTimes {
  const times = { busy: 0, all: 0 };
  for (const { times: core } of cpus()) {
    const all = core.user + core.nice + core.sys + core.irq + core.idle;
    times.all += all;
    times.busy += all - core.idle;
  }
  return times;
}

/** The share of the time between two readings in which cores were busy. */
export function busyShare(before: ProcessorTimes, now: ProcessorTimes): number {
  const all = now.all - before.all;
  return all <= 0 ? 0 : Math.min(1, Math.max(0, (now.busy - before.busy) / all));
}

/** The memory of the container, or of the machine if it has no limit. */
function hostMemory(): Pick<MachineLoad, 'memory_used_bytes' | 'memory_total_bytes'> {
  const total = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  return { memory_used_bytes: Math.max(0, total - process.availableMemory()), memory_total_bytes: total };
}

async function loadOf({ uuid }: Pick<Card, 'uuid'>, gpus: typeof readGpus): Promise<MachineLoad['card']> {
  const gpu = (await gpus()).find((one) => one.uuid === uuid);
  if (gpu === undefined) return null;
  const busy = Math.min(1, Math.max(0, gpu.busyRatio));
  return { busy, memory_used_bytes: gpu.usedBytes, memory_total_bytes: gpu.totalBytes };
}

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
