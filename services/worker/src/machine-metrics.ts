import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import type { MachineEngine } from '@lorasmith/contracts';
import { Gauge, oncePerScrape, type Registry } from '@lorasmith/service-kit';
import { readGpus } from './device/machine-load.js';

export interface MachineMetricsOptions {
  workerName: string;
  /** The engine that it trains with. */
  engine: MachineEngine;
  /** Process number of the trainer that there is now. */
  trainerPid: () => number | undefined;
}

/** Reports what the machine of a worker has and uses: memory of the host, of the trainer, and of its GPUs. */
export function observeMachine(metrics: Registry, { workerName, engine, trainerPid }: MachineMetricsOptions): void {
  const registers = [metrics];
  const device = engine.kind === 'cpu' ? 'cpu' : 'gpu';
  new Gauge({
    name: 'lorasmith_worker_info',
    help: 'Always 1; its labels say which worker this is and what it trains on.',
    labelNames: ['worker', 'device'],
    registers,
  }).set({ worker: workerName, device }, 1);
  new Gauge({
    name: 'lorasmith_host_memory_bytes',
    help: 'Memory of the container, or of the machine if it has no limit.',
    labelNames: ['state'],
    registers,
    collect() {
      this.set({ state: 'total' }, Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY));
      this.set({ state: 'available' }, process.availableMemory());
    },
  });
  new Gauge({
    name: 'lorasmith_trainer_memory_bytes',
    help: 'Resident memory of the trainer process; 0 without one.',
    registers,
    async collect() {
      const pid = trainerPid();
      this.set(pid === undefined ? 0 : await residentBytes(pid));
    },
  });
  observeEngine(registers, engine);
  if (device === 'gpu') observeGpus(registers);
}

function observeEngine(registers: Registry[], { kind, card, self_test: tested }: MachineEngine): void {
  new Gauge({
    name: 'lorasmith_engine_info',
    help: 'Always 1; its labels say what the worker computes with, on which card, and the kernels that its self-test trusts.',
    labelNames: ['engine', 'card', 'compute_capability', 'driver', 'kernels'],
    registers,
  }).set(
    {
      engine: kind,
      card: card?.name ?? '',
      compute_capability: card?.compute_capability ?? '',
      driver: card?.driver ?? '',
      kernels: tested?.kernels ?? '',
    },
    1,
  );
  if (tested === null) return;
  const cases = new Gauge({
    name: 'lorasmith_self_test_cases',
    help: 'Computations of the CUDA engine that were compared with the CPU, by result.',
    labelNames: ['result'],
    registers,
  });
  cases.set({ result: 'right' }, tested.cases - tested.failed.length);
  cases.set({ result: 'wrong' }, tested.failed.length);
  const avoided = new Gauge({
    name: 'lorasmith_avoided_kernel_info',
    help: 'Always 1; one series for each fused kernel that is wrong on this card and replaced by plain ops.',
    labelNames: ['kernel'],
    registers,
  });
  for (const kernel of tested.avoided_kernels) avoided.set({ kernel }, 1);
}

function observeGpus(registers: Registry[]): void {
  const look = oncePerScrape(() => readGpus());
  new Gauge({
    name: 'lorasmith_device_memory_bytes',
    help: 'Memory of each GPU that this worker sees.',
    labelNames: ['gpu', 'state'],
    registers,
    async collect() {
      this.reset();
      for (const { index, usedBytes, totalBytes } of await look()) {
        this.set({ gpu: index, state: 'used' }, usedBytes);
        this.set({ gpu: index, state: 'total' }, totalBytes);
      }
    },
  });
  new Gauge({
    name: 'lorasmith_device_busy_ratio',
    help: 'GPU utilization over the last second, from 0 to 1.',
    labelNames: ['gpu'],
    registers,
    async collect() {
      this.reset();
      for (const { index, busyRatio } of await look()) this.set({ gpu: index }, busyRatio);
    },
  });
}

/** 0 for a process that has ended. */
async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}
