import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { MachineProfile } from '@lorasmith/contracts';
import { askChild } from '@lorasmith/engine-host';
import { writeFileAtomic } from '@lorasmith/storage';
import type { Logger } from 'pino';
import { Value } from 'typebox/value';
import type { Device } from './device/choose-device.js';
import { type GpuReading, gpuInUse, RESERVED_BYTES, readGpus } from './device/read-gpus.js';
import { trainerEnvironment } from './trainer/trainer-environment.js';

export interface MachineProfileOptions {
  dataDir: string;
  workerName: string;
  /** What trainers compute with. */
  device: Device;
  /** The program that measures, `probe-main`. */
  probeProgram: string;
  environment: NodeJS.ProcessEnv;
  log: Logger;
}

/** A machine is measured again after so long, or when it has changed. */
const KEPT_MS = 30 * 24 * 3600 * 1000;
const PROBE_TIMEOUT_MS = 120_000;

/**
 * What this machine computes per second, measured in a process of its own and stored in the data folder. Jobs run without
 * it, too; their reports then have no estimate.
 * @returns null when it could not be measured
 */
export async function profileMachine(options: MachineProfileOptions): Promise<MachineProfile | null> {
  const { dataDir, workerName, log } = options;
  const gpu = await findGpu(options);
  const file = path.join(dataDir, 'machines', `${machineKey(options.environment, gpu)}.json`);
  const known = await readKnown(file);
  if (known !== null) return { ...known, worker: workerName };
  try {
    const measured = await runProbe(options);
    const profile = { worker: workerName, measured_at: new Date().toISOString(), ...onGpu(measured, gpu) };
    await mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomic(file, `${JSON.stringify(profile, null, 2)}\n`);
    log.info({ profile }, 'the machine was measured');
    return profile;
  } catch (error) {
    log.warn({ err: error }, 'the machine could not be measured; reports will have no estimate');
    return null;
  }
}

/** The GPU whose memory jobs are planned with; undefined: they are planned with the host's. */
async function findGpu({ device, environment, log }: MachineProfileOptions): Promise<GpuReading | undefined> {
  if (device === 'cpu') return undefined;
  const gpu = gpuInUse(await readGpus(), environment.CUDA_VISIBLE_DEVICES);
  if (gpu === undefined) {
    log.warn("nvidia-smi does not report the memory of the GPU: jobs are planned with the host's, and may not fit");
  }
  return gpu;
}

type Measured = Omit<MachineProfile, 'worker' | 'measured_at'>;

/** The reserve covers what a trainer takes before it has a model. */
function onGpu(measured: Measured, gpu: GpuReading | undefined): Measured {
  if (gpu === undefined) return measured;
  return {
    ...measured,
    processor: `${gpu.name}; ${measured.processor}`,
    memory_bytes: Math.max(0, gpu.totalBytes - RESERVED_BYTES),
    base_memory_bytes: 0,
  };
}

/** Changes with the machine and its device, but not with the name of the worker, which differs in every container. */
function machineKey({ CUDA_VISIBLE_DEVICES: devices }: NodeJS.ProcessEnv, gpu: GpuReading | undefined): string {
  const [processor] = cpus();
  const memory = [totalmem(), process.constrainedMemory()];
  const machine = [
    processor?.model,
    cpus().length,
    ...memory,
    process.versions.node,
    devices,
    gpu?.name,
    gpu?.totalBytes,
  ];
  return createHash('sha256').update(JSON.stringify(machine)).digest('hex').slice(0, 16);
}

async function readKnown(file: string): Promise<MachineProfile | null> {
  try {
    const profile: unknown = JSON.parse(await readFile(file, 'utf8'));
    const isFresh = Value.Check(MachineProfile, profile) && Date.now() - Date.parse(profile.measured_at) < KEPT_MS;
    return isFresh ? profile : null;
  } catch {
    // Missing or damaged: the machine is measured again.
    return null;
  }
}

async function runProbe({ probeProgram, environment, device, log }: MachineProfileOptions): Promise<Measured> {
  const program = { file: probeProgram, arguments: [device], environment: trainerEnvironment(environment) };
  const options = {
    work: 'Measuring the machine',
    timeoutMs: PROBE_TIMEOUT_MS,
    crashed: (how: string) => new Error(`the probe ${how}`),
    onLine: (line: string) => log.info({ from: 'probe' }, line),
  };
  return await askChild<Measured>(program, {}, options);
}
