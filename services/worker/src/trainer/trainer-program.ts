import { type ChildProgram, NO_GPU_EXIT_CODE } from '@lorasmith/child-processes';
import type { KernelSource, SelfTest } from '@lorasmith/contracts';
import type { ChosenEngine } from '../device/choose-engine.js';
import type { GenerationMemory } from '../generation/generation-context.js';

// The ways to start a process that computes as a trainer does, and what it reads of that when it starts.

/** The settings that a trainer is started with, whatever it trains. */
export interface TrainerSettings {
  /** Tokens of several runs in one pass. */
  passTokens: number;
  /** The share of the time that answers to requests for text get while jobs train. */
  generationShare: number;
  generationMemory: GenerationMemory;
}

/** Fused kernels or none, and the fused ones that are avoided: the arguments of `chooseKernels`. */
export type TrainerKernels = [source: KernelSource, { avoid: string[] }];

const SETTINGS = '--settings=';
const KERNELS = '--kernels=';
const GIBIBYTE = 1024 ** 3;

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

export function settingsArgument(settings: TrainerSettings): string {
  return `${SETTINGS}${JSON.stringify(settings)}`;
}

/** @param tested the self-test of the engine; null: it has none */
export function kernelsArgument(tested: Pick<SelfTest, 'kernels' | 'avoided_kernels'> | null): string {
  const kernels: TrainerKernels = [tested?.kernels ?? 'fused', { avoid: tested?.avoided_kernels ?? [] }];
  return `${KERNELS}${JSON.stringify(kernels)}`;
}

/** The settings that this process was started with. */
export function trainerSettings(): TrainerSettings {
  const argument = process.argv.find((one) => one.startsWith(SETTINGS));
  if (argument === undefined) throw new Error('A trainer is started with its settings.');
  return JSON.parse(argument.slice(SETTINGS.length)) as TrainerSettings;
}

/** The kernels that this process was started to compute with: those that are right on its card. */
export function trainerKernels(): TrainerKernels {
  const argument = process.argv.find((one) => one.startsWith(KERNELS));
  if (argument === undefined) throw new Error('A trainer is started with its kernels.');
  return JSON.parse(argument.slice(KERNELS.length)) as TrainerKernels;
}

/** True if this process was started for the GPU. */
export function isStartedForGpu(): boolean {
  return process.argv[2] === 'gpu';
}

/**
 * Ends this process if it was started for the GPU and its engine sees none. There was one when the worker started, and
 * TensorFlow would silently continue on the CPU.
 * @param engine - The one of `@lorasmith/training`, which the worker, too, would load if this file did.
 */
export function endWithoutGpu(engine: { readonly device: 'cpu' | 'gpu' }): void {
  if (!isStartedForGpu() || engine.device === 'gpu') return;
  console.error('The engine no longer sees the GPU.');
  process.exit(NO_GPU_EXIT_CODE);
}
