import type { ChildProgram } from '@lorasmith/child-processes';
import type { ChosenEngine } from '../device/choose-engine.js';
import { kernelsArgument, settingsArgument, type TrainerSettings } from './trainer-arguments.js';

const GIBIBYTE = 1024 ** 3;

/**
 * The environment of a process that loads the engine. glibc and TensorFlow read these variables only at its start.
 *
 * By default glibc returns large blocks to the kernel at every free and gets them again, zeroed, for the next tensor.
 * Keeping them saves 5 to 8 % of the training time; the memory returns to the system when the process ends.
 */
export function trainerEnvironment(base: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return {
    TF_CPP_MIN_LOG_LEVEL: '2',
    MALLOC_MMAP_THRESHOLD_: String(4 * GIBIBYTE),
    MALLOC_TRIM_THRESHOLD_: String(4 * GIBIBYTE),
    MALLOC_TOP_PAD_: String(GIBIBYTE / 4),
    // CUDA loads a kernel when it is first used: all of cuBLASLt's would take some hundred MB of the card. Drivers before 12.2
    // load them all unless this asks otherwise.
    CUDA_MODULE_LOADING: 'LAZY',
    ...base,
  };
}

/**
 * A program that computes as a trainer does: with this engine, and with the kernels that are right on its card. Its
 * arguments say for which device it was started, its kernels, and its settings.
 */
export function trainerProgram(
  file: string,
  { kind, self_test: tested, environment }: ChosenEngine,
  settings?: TrainerSettings,
): ChildProgram {
  const device = kind === 'cpu' ? 'cpu' : 'gpu';
  const ofTrainer = settings === undefined ? [] : [settingsArgument(settings)];
  return {
    file,
    arguments: [device, kernelsArgument(tested), ...ofTrainer],
    environment: trainerEnvironment(environment),
  };
}
