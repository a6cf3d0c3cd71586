import { engine } from '@lorasmith/training';
import { NO_GPU_EXIT_CODE } from '../device/no-gpu-exit-code.js';

/**
 * Ends this process if it was started for the GPU and its engine sees none. There was one when the worker started; without
 * a word TensorFlow would go on with the CPU.
 */
export function endWithoutGpu(): void {
  if (process.argv[2] !== 'gpu' || engine.onGpu) return;
  console.error('The engine no longer sees the GPU.');
  process.exit(NO_GPU_EXIT_CODE);
}
