import type { KernelSource, SelfTest } from '@lorasmith/contracts';
import type { GenerationMemory } from '../generation/generation-context.js';

/** The settings that a trainer is started with, whatever it trains. */
export interface TrainerSettings {
  /** Tokens of several runs in one pass. */
  passTokens: number;
  /** The share of the time that answers to requests for text get while jobs train. */
  generationShare: number;
  generationMemory: GenerationMemory;
}

const SETTINGS = '--settings=';

export function settingsArgument(settings: TrainerSettings): string {
  return `${SETTINGS}${JSON.stringify(settings)}`;
}

/** The settings that this process was started with. */
export function trainerSettings(): TrainerSettings {
  const argument = process.argv.find((one) => one.startsWith(SETTINGS));
  if (argument === undefined) throw new Error('A trainer is started with its settings.');
  return JSON.parse(argument.slice(SETTINGS.length)) as TrainerSettings;
}

const KERNELS = '--kernels=';

/** Fused kernels or none, and the fused ones that are avoided: the arguments of `chooseKernels`. */
export type TrainerKernels = [source: KernelSource, { avoid: string[] }];

/** @param tested the self-test of the engine; null: it has none */
export function kernelsArgument(tested: Pick<SelfTest, 'kernels' | 'avoided_kernels'> | null): string {
  const kernels: TrainerKernels = [tested?.kernels ?? 'fused', { avoid: tested?.avoided_kernels ?? [] }];
  return `${KERNELS}${JSON.stringify(kernels)}`;
}

/** The kernels that this process was started to compute with: those that are right on its card. */
export function trainerKernels(): TrainerKernels {
  const argument = process.argv.find((one) => one.startsWith(KERNELS));
  if (argument === undefined) throw new Error('A trainer is started with its kernels.');
  return JSON.parse(argument.slice(KERNELS.length)) as TrainerKernels;
}
