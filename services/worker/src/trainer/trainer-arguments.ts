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

/** The fused kernels that this process was started to avoid, since they failed the self-test on its card. */
export function avoidedKernels(): string[] {
  return process.argv.slice(3).filter((one) => !one.startsWith(SETTINGS));
}
