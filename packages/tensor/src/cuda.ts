import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

// The addon of the CUDA engine, native/cuda/host: a GPU as a device of TensorFlow's CPU library.

/** A GPU that NVIDIA's driver shows. */
export interface CudaDevice {
  /** Its place among the devices that CUDA_VISIBLE_DEVICES selects. */
  ordinal: number;
  name: string;
  /** `GPU-` and 8-4-4-4-12 hexadecimal digits. */
  uuid: string;
  /** Compute capability, such as `[9, 0]`. */
  capability: [major: number, minor: number];
  multiprocessors: number;
  /** The most shared memory that a block can have. */
  sharedBytesPerBlock: number;
  /** The rate by its clock and width; 0 if the driver does not say. */
  memoryBytesPerSecond: number;
  totalBytes: number;
}

/** The description of NVIDIA's driver, without a GPU being used. */
export interface CudaDriver {
  /** CUDA's version that it supports, such as 12040; 0: there is no driver. */
  driverVersion: number;
  /** Why there is no device. */
  error: string | null;
  devices: CudaDevice[];
}

export interface DeviceMemory {
  /** Bytes that tensors take now, rounded up as {@link CudaEngine.allocateExactly} says. */
  currentBytes: number;
  /** The most since the start or {@link CudaEngine.resetPeakMemory}. */
  peakBytes: number;
  /** Held by the engine, in tensors or for later ones. */
  reservedBytes: number;
  /** Free bytes of the device, for any process. */
  freeBytes: number;
  totalBytes: number;
}

export interface CudaStatistics {
  /** Copies from the host to the device. */
  uploads: number;
  uploadedBytes: number;
  /** Copies from the device to the host: also what an op without a kernel for the device reads. */
  downloads: number;
  downloadedBytes: number;
  /** Times that the host waited for all that was enqueued: for each download, and once more by TensorFlow, which finds nothing left. */
  waits: number;
  /** Allocations that failed at first and waited for the device, since enqueued work may still have used what was free. */
  memoryWaits: number;
  /** Allocations of those for which about as much as they needed was given back to the driver: what was free was in small blocks. */
  partialTrims: number;
  /** Times that all free memory was given back to the driver: for an allocation, or since the driver needed some for a kernel or a product. */
  fullTrims: number;
  /** Allocations that failed after all of that. */
  failedAllocations: number;
  /** Times that cuBLASLt was asked for algorithms: once for a new shape of a product, once more if it then refuses all of them. */
  algorithmQueries: number;
  /** Kernels launched, and by name. */
  launches: number;
  kernels: Record<string, number>;
}

/** A kernel and whether its module loads on this device. */
export interface CudaKernel {
  module: string;
  name: string;
  /** null: it is loaded. */
  error: string | null;
}

/** The addon's functions. Those after `start` need it. */
export interface CudaEngine {
  describe(): CudaDriver;
  /** Opens the first visible device, before TensorFlow's own addon is loaded. @throws Error if there is none that can be used */
  start(): CudaDevice;
  memory(): DeviceMemory;
  resetPeakMemory(): void;
  /** The bytes of the last allocation that failed since the last call; 0: none did. */
  takeFailedAllocation(): number;
  /**
   * Has allocations take exactly what they ask for from now on. Otherwise requests of 1 MiB and more are rounded up to an eighth of
   * their power of two, so that freed memory fits later requests.
   */
  allocateExactly(exactly: boolean): void;
  statistics(): CudaStatistics;
  /** The first failure after which the device cannot be used in this process; null: none. Every later op ends with this text. */
  failure(): string | null;
  /** Waits until all ops have run. @throws Error if the device has failed */
  synchronize(): void;
  /** TensorFlow's names of the ops that run on the device. */
  ops(): string[];
  /** Loads every kernel. */
  loadKernels(): CudaKernel[];
  /** cuBLASLt's version, such as 120901 for 12.9.1 (0: it does not say), and the file that was opened. */
  cublas(): { version: number; file: string };
}

const FILE = fileURLToPath(new URL('../native/build/cuda.node', import.meta.url));

/** @throws Error if the addon is not compiled, or TensorFlow's library is missing */
export function loadCudaAddon(): CudaEngine {
  if (!existsSync(FILE)) throw new Error(`the CUDA engine is not compiled: there is no ${FILE}`);
  return createRequire(import.meta.url)(FILE) as CudaEngine;
}
