import { cudaErrorIn, NO_GPU_EXIT_CODE } from '@lorasmith/child-processes';
import type { CudaInstallation, DriverDescription } from '@lorasmith/training/cuda-installation';

/** A GPU is to be used and none can be; the message says why. */
export class NoGpuError extends Error {
  readonly exitCode = NO_GPU_EXIT_CODE;
}

/** The answer of the driver, and the cards that would be seen without CUDA_VISIBLE_DEVICES. */
export interface DriverFindings extends DriverDescription {
  /** The cards that CUDA_VISIBLE_DEVICES hides. Only looked for where it leaves none. */
  hidden: DriverDescription['devices'];
  /** The driver's own version, such as `550.54.15`; null where it does not say. */
  version: string | null;
}

/** The findings about it for the CUDA engine. */
export interface CudaFindings extends Pick<GpuFindings, 'deviceFiles' | 'visibleDevices'> {
  installation: CudaInstallation | null;
  /** The answer of the driver; the error where it could not be asked; null where the engine is not installed. */
  driver: DriverFindings | Error | null;
}

/** CUDA 12.0, which the driver of version 525 was the first to support. */
const LEAST_DRIVER = 12_000;
/** Kernels for Blackwell are known to drivers from version 570 on. */
const LEAST_DRIVER_FOR_BLACKWELL = 12_080;
/** Ampere: the first with bfloat16 in its tensor cores, and the first that kernels are compiled for. */
const LEAST_CAPABILITY = 8;
const BLACKWELL = 10;
/** The capabilities that TensorFlow's GPU build is compiled for: Pascal to Hopper. */
const TENSORFLOW_CAPABILITIES = { from: 6, below: 10 };

/**
 * The parts that are missing for the CUDA engine and what to do about it, a sentence or two each; empty when nothing is. The engine
 * takes the first of the cards.
 */
export function cudaFaults({ installation, driver, deviceFiles, visibleDevices }: CudaFindings): string[] {
  if (installation === null) {
    return ['installation: packages/tensor/native/build/cuda.node is missing. Run `npm run setup -- --gpu`.'];
  }
  if (installation.architectures.length === 0) {
    return ['kernels: packages/tensor/native/build/cuda is empty. Run `npm run setup -- --gpu`, which compiles them.'];
  }
  if (driver === null) return [];
  if (driver instanceof Error) return [`installation: ${driver.message}`];
  const [card] = driver.devices;
  // The driver of such a version may not even be asked for its cards.
  const isOld = driver.driverVersion > 0 && driver.driverVersion < LEAST_DRIVER;
  if (card === undefined) return [isOld ? oldDriverFault(driver) : noCardFault(driver, deviceFiles, visibleDevices)];
  const faults: string[] = [];
  const [major, minor] = card.capability;
  const isOldForCard = major >= BLACKWELL && driver.driverVersion < LEAST_DRIVER_FOR_BLACKWELL;
  if (isOld || isOldForCard) faults.push(oldDriverFault(driver, isOldForCard ? card : undefined));
  if (major < LEAST_CAPABILITY) {
    faults.push(
      `card: ${card.name} has compute capability ${major}.${minor}, and the CUDA engine has kernels for 8.0 and later. ` +
        `Use ${TENSORFLOW_IMAGE}, or another card.`,
    );
  }
  return faults;
}

/** @param card that needs a newer driver than the engine itself */
function oldDriverFault({ driverVersion, version }: DriverFindings, card?: DriverFindings['devices'][number]): string {
  const [needs, least, release] =
    card === undefined ? ['the CUDA engine', LEAST_DRIVER, 525] : [card.name, LEAST_DRIVER_FOR_BLACKWELL, 570];
  return (
    `driver: it is too old${version === null ? '' : ` (${version})`}: it supports CUDA ${cudaVersion(driverVersion)}, ` +
    `and ${needs} needs ${cudaVersion(least)}. Install version ${release} or later on the host.`
  );
}

/** 12040 is 12.4. */
export function cudaVersion(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}

function noCardFault(driver: DriverFindings, deviceFiles: string[], visibleDevices: string | undefined): string {
  if (driver.hidden.length > 0) return hiddenFault(driver.hidden, visibleDevices ?? '');
  const error = driver.error ?? 'it lists no GPU';
  const isMissing = error.includes(DRIVER_LIBRARY);
  if (isMissing) return missingDriverFault(deviceFiles.length > 0);
  const advice = driverAdvice(error);
  if (advice !== null) return `driver: ${error}. ${advice}`;
  if (deviceFiles.length === 0) return NO_DEVICE_FAULT;
  return `driver: ${error}. nvidia-smi on the host says more; the kernel log (dmesg) names a card that has failed (Xid).`;
}

/** Errors that one cause explains, by the driver's number. */
const ADVICE: ReadonlyMap<number, string> = new Map([
  [
    802,
    'The driver is not ready. On a host with NVLink switches (HGX, DGX: SXM cards), the service nvidia-fabricmanager must run, in the ' +
      'version of the driver: `systemctl status nvidia-fabricmanager`, then install that version and start it.',
  ],
  [
    803,
    "The driver's kernel module and its libraries have different versions, as after an update: `cat /proc/driver/nvidia/version` and " +
      "the libraries' files say which. Restart the host, and create containers anew.",
  ],
]);

/** Advice about an error of the driver that has one known cause; null for others. @param text with the error's name and number */
export function driverAdvice(text: string): string | null {
  return ADVICE.get(cudaErrorIn(text)?.code ?? 0) ?? null;
}

function hiddenFault(hidden: DriverFindings['devices'], visibleDevices: string): string {
  const cards = hidden.map(({ ordinal, name, uuid }) => `${ordinal} (${name}, ${uuid})`).join(', ');
  return (
    `CUDA_VISIBLE_DEVICES=${JSON.stringify(visibleDevices)} names no GPU. Set it to the number or the UUID of one: ` +
    `${cards}.`
  );
}

/** Why TensorFlow's GPU build has no kernels for a card; null where it has. */
export function tensorflowCardFault({ name, capability }: DriverFindings['devices'][number]): string | null {
  const [major, minor] = capability;
  const { from, below } = TENSORFLOW_CAPABILITIES;
  if (major >= from && major < below) return null;
  return `card: ${name} has compute capability ${major}.${minor}, and TensorFlow's GPU build is for ${from}.0 to ${below - 1}.x.`;
}

/** The findings about the GPU of this machine, or of this container, for TensorFlow's GPU build. */
export interface GpuFindings {
  /** `/dev/nvidia…`, or its equivalent under WSL. */
  deviceFiles: string[];
  /** The libraries that the engine opens and the dynamic linker does not find. */
  missingLibraries: string[];
  /** `CUDA_VISIBLE_DEVICES` as it is set. */
  visibleDevices: string | undefined;
  /** True if the engine computes on a GPU. */
  engineOnGpu: boolean;
  /** The last lines that the engine logged while it looked for one. */
  engineLines: string[];
}

export const DRIVER_LIBRARY = 'libcuda.so.1';

/** The libraries that TensorFlow opens for a GPU; without one of them it silently computes on the CPU. */
export const CUDA_LIBRARIES = [
  'libcudart.so.12',
  'libcublas.so.12',
  'libcublasLt.so.12',
  'libcufft.so.11',
  'libcusolver.so.11',
  'libcusparse.so.12',
  'libcudnn.so.9',
];

/** The other image, for cards that the CUDA engine does not have kernels for. */
export const TENSORFLOW_IMAGE = 'the image lorasmith-worker-gpu-tensorflow';

export const NO_DEVICE_FAULT =
  'device: there is no /dev/nvidia*. Load the driver on the host (nvidia-smi must work there); a container needs ' +
  'access to a GPU.';

export function missingDriverFault(hasDevice: boolean): string {
  if (!hasDevice) {
    return (
      `driver: there is neither /dev/nvidia* nor ${DRIVER_LIBRARY}. The host needs the NVIDIA driver (nvidia-smi must ` +
      'work there); a container also needs the NVIDIA Container Toolkit on the host, and access to a GPU.'
    );
  }
  return (
    `toolkit: ${DRIVER_LIBRARY}, the driver's library, is not found. In a container the NVIDIA Container Toolkit of the ` +
    'host adds it, if NVIDIA_DRIVER_CAPABILITIES includes "compute".'
  );
}

/**
 * The parts that are missing for TensorFlow's GPU build and what to do about it, a sentence or two each; empty when nothing is.
 */
export function gpuFaults(findings: GpuFindings): string[] {
  if (findings.engineOnGpu) return [];
  const { deviceFiles, missingLibraries, visibleDevices, engineLines } = findings;
  const faults: string[] = [];
  const hasDevice = deviceFiles.length > 0;
  const hasDriver = !missingLibraries.includes(DRIVER_LIBRARY);
  if (!hasDriver) faults.push(missingDriverFault(hasDevice));
  else if (!hasDevice) faults.push(NO_DEVICE_FAULT);
  const missingCuda = missingLibraries.filter((library) => library !== DRIVER_LIBRARY);
  if (missingCuda.length > 0) {
    faults.push(
      `library: not found: ${missingCuda.join(', ')}. ${TENSORFLOW_IMAGE.replace('the', 'The')} has them in /opt/cuda/lib, which ` +
        'LD_LIBRARY_PATH must name.',
    );
  }
  if (visibleDevices === '-1' || visibleDevices === '') {
    faults.push('CUDA_VISIBLE_DEVICES hides every GPU. Set it to the number of one, such as 0.');
  }
  if (faults.length === 0) {
    const said = engineLines.length > 0 ? ` It said: ${engineLines.join(' | ')}` : '';
    faults.push(
      'engine: driver and libraries are there, but TensorFlow uses no GPU. It may be its build without CUDA, or the ' +
        `driver may be too old for CUDA 12.5 (525 or later), or CUDA_VISIBLE_DEVICES names no GPU of this machine.${said}`,
    );
  }
  return faults;
}
