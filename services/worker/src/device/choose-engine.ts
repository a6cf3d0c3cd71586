import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Card, EngineKind, MachineEngine, SelfTest } from '@lorasmith/contracts';
import { type CudaInstallation, cudaInstallation } from '@lorasmith/training/cuda-installation';
import type { Logger } from 'pino';
import { SelfTestError } from '../self-test/compute-part.js';
import {
  cudaFaults,
  cudaVersion,
  type DriverFindings,
  driverAdvice,
  gpuFaults,
  NoGpuError,
  tensorflowCardFault,
} from './gpu-faults.js';
import { gpuDeviceFiles, lookAtDriver, lookForGpu } from './gpu-probes.js';
import { COUNT_AS_DRIVER } from './machine-load.js';

/** The device to train on: `auto` is the GPU where an engine can use one. */
export type RequestedDevice = 'auto' | 'gpu' | 'cpu';
/** The engine on a GPU: `auto` is the CUDA engine where it can be used, else TensorFlow's. */
export type RequestedEngine = 'auto' | GpuEngineKind;
type GpuEngineKind = Exclude<EngineKind, 'cpu'>;

/** The engine that trainers compute with, decided once when the worker starts. */
export interface ChosenEngine extends MachineEngine {
  /** The environment of every process that computes with it. */
  environment: NodeJS.ProcessEnv;
}

export interface ChooseEngineOptions {
  device: RequestedDevice;
  engine: RequestedEngine;
  /** The environment that trainers will inherit. */
  environment: NodeJS.ProcessEnv;
  programs: {
    /** The compiled `gpu-probes-main`, asked about the driver. */
    describeDriver: string;
    /** The compiled `gpu-probes-main`, asked about the engine. */
    probeGpu: string;
  };
  /** Locks a card for this worker. @throws NoGpuError when another worker has it */
  lock: (uuid: string) => Promise<unknown>;
  /** Compares the CUDA engine with the CPU, or remembers that. @throws SelfTestError when there is no result */
  selfTest: (card: SelfTestedCard) => Promise<JudgedEngine>;
  log: Logger;
  /** @defaultValue those of this installation */
  installation?: CudaInstallation | null;
}

/** The card and versions that the result of a self-test is true for. */
export interface SelfTestedCard {
  card: NonNullable<MachineEngine['card']>;
  installation: CudaInstallation;
  environment: NodeJS.ProcessEnv;
}

/** The result of a self-test, as a worker that starts has it. */
export interface JudgedEngine {
  self_test: SelfTest;
  /** Says when an engine that failed is tested again, and how that is done at once; null: it is trusted. */
  retest: string | null;
}

/** The CPU, as an engine. */
export function cpuEngine(environment: NodeJS.ProcessEnv): ChosenEngine {
  return { kind: 'cpu', card: null, self_test: null, environment: engineEnvironment('cpu', environment) };
}

/**
 * Decides what the trainers of this worker compute with. TensorFlow itself silently falls back to the CPU, and a job would
 * then take a hundred times as long; and an engine that computes wrong numbers would make wrong adapters.
 *
 * @throws NoGpuError when the GPU must be used and cannot be, and when this machine has one whose engine is not to be trusted
 */
export async function chooseEngine(options: ChooseEngineOptions): Promise<ChosenEngine> {
  const { device, environment, log } = options;
  if (device === 'cpu') return cpuEngine(environment);
  // Loading the engine takes seconds, which a machine without a GPU is spared.
  if (device === 'auto' && (await gpuDeviceFiles()).length === 0) {
    log.info({ device: 'cpu' }, 'training on the CPU: this machine has no NVIDIA GPU');
    return cpuEngine(environment);
  }
  const search = await searchGpu(options);
  if (search.chosen !== null) {
    const { kind, card } = search.chosen;
    if (search.faults.length > 0) log.warn({ engine: kind, faults: search.faults }, 'another engine would be faster');
    log.info({ device: 'gpu', engine: kind, card }, 'training on the GPU');
    return search.chosen;
  }
  const { faults, unusable } = search;
  if (device === 'gpu' || unusable !== null) {
    const first = unusable ?? 'The engine sees no GPU, and DEVICE is gpu.';
    const list = faults.map((fault) => `  ${fault}\n`).join('');
    throw new NoGpuError(`${first}\n${list}DEVICE=cpu trains on the CPU instead.`);
  }
  log.warn({ device: 'cpu', faults }, 'training on the CPU: the engine does not see the GPU of this machine');
  return cpuEngine(environment);
}

interface GpuSearch {
  chosen: ChosenEngine | null;
  /** Faults of the engines that were not chosen. */
  faults: string[];
  /** A card is there, and the CUDA engine must not be used on it: it computes wrong numbers, or could not be tested. */
  unusable: string | null;
}

async function searchGpu(options: ChooseEngineOptions): Promise<GpuSearch> {
  const { engine, environment, installation = cudaInstallation(environment.CUDA_KERNEL_DIR) } = options;
  const driver = await driverOf(options, installation);
  const card = cardOf(driver);
  // Before anything computes on it: what another worker does there would be disturbed, and its memory is not free.
  if (card !== null) await options.lock(card.uuid);
  const search: GpuSearch = { chosen: null, faults: [], unusable: null };
  if (engine !== 'tensorflow') {
    const found = await tryCuda(options, installation, driver);
    if ('chosen' in found) return { ...search, chosen: found.chosen };
    search.faults.push(...found.faults);
    search.unusable = found.unusable;
  }
  // An installation that has both names the folder of the second one. One that has neither may be linked to the GPU build.
  const hasTensorflow = Boolean(environment[TENSORFLOW_GPU_DIR]) || engine === 'tensorflow' || installation === null;
  if (engine === 'cuda' || !hasTensorflow) return search;
  const found = await tryTensorflow(options, driver);
  if ('chosen' in found) return { ...search, chosen: found.chosen };
  return { ...search, faults: [...new Set([...search.faults, ...found.faults])] };
}

type Found = { chosen: ChosenEngine } | Pick<GpuSearch, 'faults' | 'unusable'>;

async function driverOf(
  { environment, programs }: ChooseEngineOptions,
  installation: CudaInstallation | null,
): Promise<DriverFindings | Error | null> {
  if (installation === null) return null;
  const numbered = engineEnvironment('cuda', environment);
  return await lookAtDriver(programs.describeDriver, installation, numbered).catch((error: Error) => error);
}

async function tryCuda(
  { environment: base, selfTest }: ChooseEngineOptions,
  installation: CudaInstallation | null,
  driver: DriverFindings | Error | null,
): Promise<Found> {
  const deviceFiles = await gpuDeviceFiles();
  const faults = cudaFaults({ installation, driver, deviceFiles, visibleDevices: base.CUDA_VISIBLE_DEVICES });
  const card = cardOf(driver);
  if (faults.length > 0 || card === null || installation === null) return { faults, unusable: null };
  const environment = engineEnvironment('cuda', base);
  try {
    const { self_test, retest } = await selfTest({ card, installation, environment });
    if (self_test.distrust === null) return { chosen: { kind: 'cuda', card, self_test, environment } };
    return {
      faults: [selfTestFault(self_test.distrust, retest)],
      unusable: 'The engine cannot be trusted on this GPU.',
    };
  } catch (error) {
    if (!(error instanceof SelfTestError)) throw error;
    const fault = selfTestFault(error.message, driverAdvice(error.message));
    return { faults: [fault], unusable: 'The engine could not be tested on this GPU.' };
  }
}

function selfTestFault(what: string, advice: string | null): string {
  return [`self-test: ${what.replace(/\.?$/, '.')}`, ...(advice === null ? [] : [advice])].join(' ');
}

async function tryTensorflow(
  { environment: base, programs }: ChooseEngineOptions,
  driver: DriverFindings | Error | null,
): Promise<Found> {
  const description = driver === null || driver instanceof Error ? undefined : driver.devices[0];
  const cardFault = description === undefined ? null : tensorflowCardFault(description);
  if (cardFault !== null) return { faults: [cardFault], unusable: null };
  const environment = engineEnvironment('tensorflow', base);
  // Where the driver keeps the kernels that it compiles for a card that TensorFlow has none for.
  if (base.CUDA_CACHE_PATH) await mkdir(base.CUDA_CACHE_PATH, { recursive: true }).catch(() => {});
  const faults = gpuFaults(await lookForGpu(programs.probeGpu, environment));
  if (faults.length > 0) return { faults, unusable: null };
  return { chosen: { kind: 'tensorflow', card: cardOf(driver), self_test: null, environment } };
}

/** The first card that the driver shows, as it is reported; null where there is none. The CUDA engine takes the first. */
export function cardOf(driver: DriverFindings | Error | null): Card | null {
  if (driver === null || driver instanceof Error) return null;
  const [card] = driver.devices;
  if (card === undefined) return null;
  const supports = `CUDA ${cudaVersion(driver.driverVersion)}`;
  return {
    name: card.name,
    uuid: card.uuid,
    compute_capability: card.capability.join('.'),
    driver: driver.version === null ? supports : `${driver.version}, ${supports}`,
    memory_bytes: card.totalBytes,
  };
}

/** Names the folder of TensorFlow's GPU build, where an image has it in addition to its CPU build. */
export const TENSORFLOW_GPU_DIR = 'TENSORFLOW_GPU_DIR';
/** The products that an adapter is a part of; read by packages/tensor. */
export const GPU_LORA_PADDING = 'GPU_LORA_PADDING';

/** The environment of a process that computes with this engine. `ENGINE` is read by packages/tensor. */
export function engineEnvironment(kind: EngineKind, base: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  switch (kind) {
    case 'cpu':
      // Without this TensorFlow's GPU build would take a GPU that it is not to use, and nearly all of its memory.
      return { ...base, ENGINE: kind, CUDA_VISIBLE_DEVICES: '-1' };
    case 'cuda':
      return { ...COUNT_AS_DRIVER, ...base, ENGINE: kind };
    case 'tensorflow':
      // Float32 products are to be exact to float32, as they are on the other engines.
      return { ...COUNT_AS_DRIVER, ...withGpuBuild(base), ENGINE: kind, NVIDIA_TF32_OVERRIDE: '0' };
  }
}

/** Its libraries have the names of the CPU build's, and the dynamic linker takes what it finds first. */
function withGpuBuild(base: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const folder = base[TENSORFLOW_GPU_DIR];
  if (!folder) return base;
  const libraries = [path.join(folder, 'lib'), base.LD_LIBRARY_PATH].filter(Boolean).join(':');
  return { ...base, LD_LIBRARY_PATH: libraries };
}
