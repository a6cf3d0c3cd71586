import { cpus, totalmem } from 'node:os';
import type { Card, MachineLoad } from '@lorasmith/contracts';
import { readGpus } from './read-gpus.js';

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
