import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { askChild } from '@lorasmith/child-processes';
import { MachineProfile } from '@lorasmith/contracts';
import { passTokensOf } from '@lorasmith/planning';
import { PRODUCT_VERSION } from '@lorasmith/service-kit';
import { writeFileAtomic } from '@lorasmith/storage';
import type { MeasureOptions } from '@lorasmith/training';
import type { Logger } from 'pino';
import { Value } from 'typebox/value';
import type { ChosenEngine } from './device/choose-engine.js';
import { CUDA_RESERVED_BYTES, gpuInUse, readGpus, TENSORFLOW_RESERVED_BYTES } from './device/machine-load.js';
import { trainerProgram } from './trainer/trainer-program.js';

export interface MachineProfileOptions {
  dataDir: string;
  workerName: string;
  /** The engine that trainers compute with. */
  engine: ChosenEngine;
  /** The program that measures, `probe-main`. */
  probeProgram: string;
  /** The shapes that are measured on a GPU. @defaultValue full */
  sizes?: MeasureOptions['sizes'];
  /** Tokens of a pass that jobs share. @defaultValue null: as many as suit the machine */
  passTokens?: number | null;
  log: Logger;
}

/** A machine is measured again after so long, or when it has changed. */
const KEPT_MS = 30 * 24 * 3600 * 1000;
/** Compute capability. */
const FIRST_WITH_BFLOAT16 = 8;
const PROBE_TIMEOUT_MS = 120_000;

/**
 * The rates of this machine, measured in a process of its own and stored in the data folder. Jobs run without
 * it, too; their reports then have no estimate.
 * @returns null when it could not be measured
 */
export async function profileMachine(options: MachineProfileOptions): Promise<MachineProfile | null> {
  const { dataDir, workerName, passTokens = null, log } = options;
  const { environment: _, ...engine } = options.engine;
  const passTokensOn = ({ rates }: Measured) => ({ pass_tokens: passTokens ?? passTokensOf({ engine, rates }) });
  const gpu = await findGpu(options);
  const file = path.join(dataDir, 'machines', `${machineKey(options.engine, gpu)}.json`);
  const known = await readKnown(file);
  if (known !== null) return { ...onGpu(known, gpu), worker: workerName, ...passTokensOn(known), engine };
  try {
    const measured = await runProbe(options);
    const measuredAt = new Date().toISOString();
    const profile = { worker: workerName, measured_at: measuredAt, ...measured, ...passTokensOn(measured), engine };
    await mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomic(file, `${JSON.stringify(profile, null, 2)}\n`);
    log.info({ profile }, 'the machine was measured');
    return onGpu(profile, gpu);
  } catch (error) {
    log.warn({ err: error }, 'the machine could not be measured; reports will have no estimate');
    return null;
  }
}

/** The GPU whose memory jobs are planned with. */
interface PlannedGpu {
  name: string;
  totalBytes: number;
  /** The memory that other programs have when the worker starts, such as a desktop. */
  usedBytes: number;
  /** The memory that tensors cannot use. */
  reservedBytes: number;
}

/** @returns undefined: jobs are planned with the memory of the host */
async function findGpu({ engine, log }: MachineProfileOptions): Promise<PlannedGpu | undefined> {
  const { kind, card, environment } = engine;
  if (kind === 'cpu') return undefined;
  const gpus = await readGpus();
  if (kind === 'cuda' && card !== null) {
    const { usedBytes = 0 } = gpus.find(({ uuid }) => uuid === card.uuid) ?? {};
    return { name: card.name, totalBytes: card.memory_bytes, usedBytes, reservedBytes: CUDA_RESERVED_BYTES };
  }
  const gpu = gpuInUse(gpus, environment.CUDA_VISIBLE_DEVICES);
  if (gpu !== undefined) return { ...gpu, reservedBytes: TENSORFLOW_RESERVED_BYTES };
  log.warn("nvidia-smi does not report the memory of the GPU: jobs are planned with the host's, and may not fit");
  return undefined;
}

/** The answer of the probe. */
type Measured = Omit<MachineProfile, 'worker' | 'measured_at' | 'pass_tokens' | 'engine'>;

/** The measurements with the memory of the GPU as it is now. The reserve covers what a trainer takes before it has a model. */
function onGpu<Profile extends Measured>(measured: Profile, gpu: PlannedGpu | undefined): Profile {
  if (gpu === undefined) return measured;
  return {
    ...measured,
    processor: `${gpu.name}; ${measured.processor}`,
    memory_bytes: Math.max(0, gpu.totalBytes - gpu.usedBytes - gpu.reservedBytes),
    base_memory_bytes: 0,
  };
}

/** Changes with the machine and its device, but not with the name of the worker, which differs in every container. */
function machineKey({ kind, card, self_test, environment }: ChosenEngine, gpu: PlannedGpu | undefined): string {
  const [processor] = cpus();
  const memory = [totalmem(), process.constrainedMemory()];
  const machine = [
    processor?.model,
    cpus().length,
    ...memory,
    process.versions.node,
    kind,
    environment.CUDA_VISIBLE_DEVICES,
    PRODUCT_VERSION,
    card?.driver,
    self_test?.kernels,
    self_test?.avoided_kernels,
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

async function runProbe({ probeProgram, engine, sizes = 'full', log }: MachineProfileOptions): Promise<Measured> {
  const program = trainerProgram(probeProgram, engine);
  const options = {
    work: 'Measuring the machine',
    timeoutMs: PROBE_TIMEOUT_MS,
    crashed: (how: string) => new Error(`the probe ${how}`),
    onLine: (line: string) => log.info({ from: 'probe' }, line),
  };
  const order: MeasureOptions = { hasBfloat16: hasBfloat16(engine), sizes };
  return await askChild<Measured>(program, order, options);
}

/** Products in bfloat16 fail on older cards. Where the driver does not say how old one is, it is tried. */
function hasBfloat16({ card }: ChosenEngine): boolean {
  const capability = card?.compute_capability ?? null;
  return capability === null || Number(capability) >= FIRST_WITH_BFLOAT16;
}
