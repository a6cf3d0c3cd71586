import { NO_GPU_EXIT_CODE } from '@lorasmith/child-processes';
import { engine } from '@lorasmith/training';

/**
 * Ends this process if it was started for the GPU and its engine sees none. There was one when the worker started, and
 * TensorFlow would silently continue on the CPU.
 */
export function endWithoutGpu(): void {
  if (process.argv[2] !== 'gpu' || engine.device === 'gpu') return;
  console.error('The engine no longer sees the GPU.');
  process.exit(NO_GPU_EXIT_CODE);
}
