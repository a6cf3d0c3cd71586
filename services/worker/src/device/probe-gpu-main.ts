import { answerParent } from '@lorasmith/child-processes';
import { CUDA_LIBRARIES, DRIVER_LIBRARY } from './gpu-faults.js';
import type { EngineFindings } from './look-for-gpu.js';

// A process of its own: the libraries that it loads, and the GPU memory that the engine takes, go when it ends.

/** Whether the dynamic linker finds a library. Node opens it, then misses what only a module of Node's has. */
function isFound(library: string): boolean {
  try {
    process.dlopen({ exports: {} }, library);
    return true;
  } catch (error) {
    return !(error as Error).message.includes('cannot open shared object file');
  }
}

answerParent('search for a GPU', async (): Promise<EngineFindings> => {
  const missingLibraries = [DRIVER_LIBRARY, ...CUDA_LIBRARIES].filter((library) => !isFound(library));
  // Only now: the engine opens libraries itself when it is loaded.
  const { engine } = await import('@lorasmith/training');
  return { missingLibraries, engineOnGpu: engine.device === 'gpu' };
});
