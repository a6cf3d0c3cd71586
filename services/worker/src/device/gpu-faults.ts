/** The findings about the GPU of this machine, or of this container, for TensorFlow's GPU build. */
export interface GpuFindings {
  /** `/dev/nvidia…`, or its equivalent under WSL. */
  deviceFiles: string[];
  /** The libraries that the engine opens and the dynamic linker does not find. */
  missingLibraries: string[];
  /** `CUDA_VISIBLE_DEVICES` as it is set. */
  visibleDevices: string | undefined;
  /** Whether the engine computes on a GPU. */
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
