import { answerAndEnd } from '../answer-and-end.js';
import { CUDA_LIBRARIES, DRIVER_LIBRARY } from './gpu-faults.js';

// A process of its own: what it loads, and the memory of the GPU that the engine takes, go with it.

/** Whether the dynamic linker finds a library. Node opens it, and then misses what a module of Node's would have. */
function isFound(library: string): boolean {
  try {
    process.dlopen({ exports: {} }, library);
    return true;
  } catch (error) {
    return !(error as Error).message.includes('cannot open shared object file');
  }
}

const missingLibraries = [DRIVER_LIBRARY, ...CUDA_LIBRARIES].filter((library) => !isFound(library));
// Only now: loading it opens libraries itself.
const { engine } = await import('@lorasmith/training');
answerAndEnd({ missingLibraries, engineOnGpu: engine.onGpu });
