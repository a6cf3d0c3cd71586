import { readdir, readFile } from 'node:fs/promises';
import { askChild, type ChildProgram } from '@lorasmith/child-processes';
import type { CudaInstallation, DriverDescription } from '@lorasmith/training/cuda-installation';
import { type DriverFindings, driverAdvice, type GpuFindings } from './gpu-faults.js';

/** The question that a process of `gpu-probes-main` answers, its argument. */
export type GpuProbe = 'driver' | 'engine' | 'try';

const DRIVER_TIMEOUT_MS = 60_000;
const ENGINE_TIMEOUT_MS = 120_000;
/** A new process loads the engine, makes its context and loads a kernel. A lost card often does not answer at all. */
const TRY_TIMEOUT_MS = 60_000;
const DRIVER_VERSION_FILE = '/proc/driver/nvidia/version';
/** Lines of the engine that are kept, and their length. */
const KEPT_LINES = 6;
const MAX_LINE_LENGTH = 300;

/**
 * Asks the driver for its cards in a process of its own: a driver that hangs or crashes takes only that process with it.
 *
 * @param program the compiled `gpu-probes-main`
 * @throws Error when the addon does not load, or the driver does not answer
 */
export async function lookAtDriver(
  program: string,
  installation: CudaInstallation,
  environment: NodeJS.ProcessEnv,
): Promise<DriverFindings> {
  const found = await describeDriver(program, installation, environment);
  const isHiding = found.devices.length === 0 && environment.CUDA_VISIBLE_DEVICES !== undefined;
  const { CUDA_VISIBLE_DEVICES: _, ...open } = environment;
  const hidden = isHiding ? (await describeDriver(program, installation, open)).devices : [];
  return { ...found, hidden, version: await driverVersion() };
}

/** The findings of the probe. */
export type EngineFindings = Pick<GpuFindings, 'missingLibraries' | 'engineOnGpu'>;

/** The device files of NVIDIA's driver, and of WSL's. */
export async function gpuDeviceFiles(): Promise<string[]> {
  const names = await readdir('/dev');
  return names.filter((name) => /^nvidia\d+$|^nvidiactl$|^dxg$/.test(name)).map((name) => `/dev/${name}`);
}

/**
 * Loads the engine in a process of its own and returns what it found there.
 *
 * @param program the compiled `gpu-probes-main`
 * @throws Error when the engine cannot be loaded
 */
export async function lookForGpu(program: string, environment: NodeJS.ProcessEnv): Promise<GpuFindings> {
  const engineLines: string[] = [];
  const found = await askChild<EngineFindings>(
    // At 1 the engine logs why it uses no GPU; the trainers' own level would hide that.
    probe('engine', program, { ...environment, TF_CPP_MIN_LOG_LEVEL: '1' }),
    {},
    {
      work: 'Looking for a GPU',
      timeoutMs: ENGINE_TIMEOUT_MS,
      crashed: (how) => new Error(`Its probe ${how}.`),
      onLine(line) {
        if (line.trim() === '') return;
        engineLines.push(line.slice(0, MAX_LINE_LENGTH));
        if (engineLines.length > KEPT_LINES) engineLines.shift();
      },
    },
  ).catch((cause: Error) => {
    throw new Error(`The engine cannot be loaded. ${cause.message} ${engineLines.join(' | ')}`, { cause });
  });
  return {
    ...found,
    deviceFiles: await gpuDeviceFiles(),
    visibleDevices: environment.CUDA_VISIBLE_DEVICES,
    engineLines,
  };
}

/**
 * Finds out in a process of its own if the GPU still computes.
 *
 * @param program the compiled `gpu-probes-main`
 * @param environment of a trainer with the engine
 * @returns what is wrong with it; null when it is well
 */
export async function gpuFault(program: string, environment: NodeJS.ProcessEnv): Promise<string | null> {
  try {
    const { fault } = await askChild<{ fault: string | null }>(
      probe('try', program, environment),
      {},
      { work: 'Trying the GPU', timeoutMs: TRY_TIMEOUT_MS, crashed: (how) => new Error(`Its process ${how}.`) },
    );
    const advice = fault === null ? null : driverAdvice(fault);
    return advice === null ? fault : `${fault}. ${advice}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function describeDriver(
  file: string,
  installation: CudaInstallation,
  environment: NodeJS.ProcessEnv,
): Promise<DriverDescription> {
  const lines: string[] = [];
  return await askChild<DriverDescription>(probe('driver', file, environment), installation, {
    work: 'Asking the driver for its GPUs',
    timeoutMs: DRIVER_TIMEOUT_MS,
    crashed: (how) =>
      new Error(`The process that asks the driver for its GPUs ${how}. ${lines.at(-1) ?? ''}`.trimEnd()),
    onLine: (line) => void (line.trim() !== '' && lines.push(line)),
  });
}

async function driverVersion(): Promise<string | null> {
  const text = await readFile(DRIVER_VERSION_FILE, 'utf8').catch(() => '');
  return /Kernel Module\D*?(\d+\.\d+(\.\d+)?)/.exec(text)?.[1] ?? null;
}

function probe(question: GpuProbe, file: string, environment: NodeJS.ProcessEnv): ChildProgram {
  return { file, arguments: [question], environment };
}
