import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { MachineProfile } from '@lorasmith/contracts';
import { writeFileAtomic } from '@lorasmith/storage';
import type { Logger } from 'pino';
import { Value } from 'typebox/value';
import type { Device } from './device/choose-device.js';
import { gpuInUse, RESERVED_BYTES } from './device/gpu-in-use.js';
import { type GpuReading, readGpus } from './device/read-gpus.js';
import { trainerEnvironment } from './trainer/trainer-environment.js';

export interface MachineProfileOptions {
  dataDir: string;
  workerName: string;
  /** What trainers compute with. */
  device: Device;
  /** Measures, and sends what it found. */
  probeProgram: string;
  environment: NodeJS.ProcessEnv;
  log: Logger;
}

/** A machine is measured again after so long, or when it is another one. */
const KEPT_MS = 30 * 24 * 3600 * 1000;
const PROBE_TIMEOUT_MS = 120_000;

/**
 * What this machine does per second, measured in a process of its own and kept in the data folder. Without it jobs run as
 * well; their reports have no estimate then.
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

/** The GPU whose memory counts; undefined where that of the host does. */
async function findGpu({ device, environment, log }: MachineProfileOptions): Promise<GpuReading | undefined> {
  if (device === 'cpu') return undefined;
  const gpu = gpuInUse(await readGpus(), environment.CUDA_VISIBLE_DEVICES);
  if (gpu === undefined) {
    log.warn("nvidia-smi does not tell the memory of the GPU: jobs are planned with the host's, and may not fit");
  }
  return gpu;
}

type Measured = Omit<MachineProfile, 'worker' | 'measured_at'>;

/** What a trainer takes before it has a model is in the reserve, or in the memory of the host. */
function onGpu(measured: Measured, gpu: GpuReading | undefined): Measured {
  if (gpu === undefined) return measured;
  return {
    ...measured,
    processor: `${gpu.name}; ${measured.processor}`,
    memory_bytes: Math.max(0, gpu.totalBytes - RESERVED_BYTES),
    base_memory_bytes: 0,
  };
}

/**
 * Changes with the machine, and with what it computes with. Not with the name of the worker: in a container that is
 * another one each time.
 */
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
    // Not there, or damaged: it is measured anew.
    return null;
  }
}

async function runProbe({ probeProgram, environment, device }: MachineProfileOptions): Promise<Measured> {
  const child = fork(probeProgram, [device], {
    env: trainerEnvironment(environment),
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    timeout: PROBE_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const message = once(child, 'message') as Promise<[unknown]>;
  const gone = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`the probe ended with ${signal ?? `exit code ${code}`}`);
  });
  gone.catch(() => {});
  const [measured] = await Promise.race([message, gone]);
  return measured as Measured;
}
