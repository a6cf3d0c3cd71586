import { answerParent } from '@lorasmith/child-processes';
import { type CudaInstallation, describeDriver } from '@lorasmith/training/cuda-installation';
import { CUDA_LIBRARIES, DRIVER_LIBRARY } from './gpu-faults.js';
import type { EngineFindings, GpuProbe } from './gpu-probes.js';

// A process of its own for each question: the libraries that it loads, and what the driver and the engine allocate, go when it ends, and a
// driver that hangs does not stop the worker.

const PROBES: Record<GpuProbe, () => void> = {
  driver: () =>
    answerParent('description of the driver', async (installation: CudaInstallation) => describeDriver(installation)),
  engine: () =>
    answerParent('search for a GPU', async (): Promise<EngineFindings> => {
      const missingLibraries = [DRIVER_LIBRARY, ...CUDA_LIBRARIES].filter((library) => !isFound(library));
      // Only now: the engine opens libraries itself when it is loaded.
      const { engine } = await import('@lorasmith/training');
      return { missingLibraries, engineOnGpu: engine.device === 'gpu' };
    }),
  // Asked when a trainer has failed on the GPU.
  try: () =>
    answerParent('try of the GPU', async () => {
      try {
        const { tryGpu } = await import('@lorasmith/training');
        tryGpu();
        return { fault: null };
      } catch (error) {
        return { fault: error instanceof Error ? error.message : String(error) };
      }
    }),
};

/** True if the dynamic linker finds a library. Node opens it, then misses what only a module of Node's has. */
function isFound(library: string): boolean {
  try {
    process.dlopen({ exports: {} }, library);
    return true;
  } catch (error) {
    return !(error as Error).message.includes('cannot open shared object file');
  }
}

PROBES[process.argv[2] as GpuProbe]();
