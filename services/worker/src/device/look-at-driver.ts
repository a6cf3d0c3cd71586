import { readFile } from 'node:fs/promises';
import { askChild } from '@lorasmith/child-processes';
import type { CudaInstallation, DriverDescription } from '@lorasmith/training/cuda-installation';

const TIMEOUT_MS = 60_000;
const DRIVER_VERSION_FILE = '/proc/driver/nvidia/version';

/** The answer of the driver, and the cards that would be seen without CUDA_VISIBLE_DEVICES. */
export interface DriverFindings extends DriverDescription {
  /** The cards that CUDA_VISIBLE_DEVICES hides. Only looked for where it leaves none. */
  hidden: DriverDescription['devices'];
  /** The driver's own version, such as `550.54.15`; null where it does not say. */
  version: string | null;
}

/**
 * Asks the driver for its cards in a process of its own: a driver that hangs or crashes takes only that process with it.
 *
 * @param program the compiled `describe-driver-main`
 * @throws Error when the addon does not load, or the driver does not answer
 */
export async function lookAtDriver(
  program: string,
  installation: CudaInstallation,
  environment: NodeJS.ProcessEnv,
): Promise<DriverFindings> {
  const found = await describe(program, installation, environment);
  const isHiding = found.devices.length === 0 && environment.CUDA_VISIBLE_DEVICES !== undefined;
  const { CUDA_VISIBLE_DEVICES: _, ...open } = environment;
  const hidden = isHiding ? (await describe(program, installation, open)).devices : [];
  return { ...found, hidden, version: await driverVersion() };
}

async function describe(
  file: string,
  installation: CudaInstallation,
  environment: NodeJS.ProcessEnv,
): Promise<DriverDescription> {
  const lines: string[] = [];
  return await askChild<DriverDescription>({ file, environment }, installation, {
    work: 'Asking the driver for its GPUs',
    timeoutMs: TIMEOUT_MS,
    crashed: (how) =>
      new Error(`The process that asks the driver for its GPUs ${how}. ${lines.at(-1) ?? ''}`.trimEnd()),
    onLine: (line) => void (line.trim() !== '' && lines.push(line)),
  });
}

async function driverVersion(): Promise<string | null> {
  const text = await readFile(DRIVER_VERSION_FILE, 'utf8').catch(() => '');
  return /Kernel Module\D*?(\d+\.\d+(\.\d+)?)/.exec(text)?.[1] ?? null;
}
