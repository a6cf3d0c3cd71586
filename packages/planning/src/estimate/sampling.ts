import type { MachineRates, SampleSettings } from '@lorasmith/contracts';
import { type DecoderArchitecture, keyValueNumbers, stateBytesPerText } from '@lorasmith/model-folder';

export interface SamplingLoad {
  settings: SampleSettings;
  /** Tokens of each prompt. */
  prompts: readonly Int32Array[];
}

/** Tokens that a key-value cache gets memory for at a time. */
const PAGE_TOKENS = 32;
/** Prompts beyond it wait until others are answered. */
const MOST_CACHE_TOKENS = 8_192;

/** Tokens that the cache for a round of samples has room for. */
export function sampleCacheTokens({ settings, prompts }: SamplingLoad): number {
  const needed = prompts.map(({ length }) => PAGE_TOKENS * Math.ceil((length + settings.max_tokens) / PAGE_TOKENS));
  const all = needed.reduce((sum, tokens) => sum + tokens, 0);
  return Math.min(all, Math.max(MOST_CACHE_TOKENS, ...needed));
}

/** Bytes of that cache, and of the states of linear attention for all prompts. */
export function sampleCacheBytes(
  architecture: DecoderArchitecture,
  load: SamplingLoad,
  bytesPerNumber: number,
): number {
  const perToken = keyValueNumbers(architecture) * bytesPerNumber;
  return sampleCacheTokens(load) * perToken + load.prompts.length * stateBytesPerText(architecture, bytesPerNumber);
}

/**
 * Seconds of a round of samples. Reading the prompts is a forward pass. Each token after that reads all weights once, for all
 * prompts together.
 * @param forwardSeconds of a token in a forward pass
 */
export function sampleSeconds(
  { settings, prompts }: SamplingLoad,
  { forwardSeconds, weightBytes, layerCount }: { forwardSeconds: number; weightBytes: number; layerCount: number },
  rates: MachineRates,
): number {
  const read = prompts.reduce((sum, { length }) => sum + length, 0);
  const perNewToken = weightBytes / 1e9 / rates.pass_gbytes + (layerCount * rates.layer_overhead_ms) / 3e3;
  return forwardSeconds * read + perNewToken * settings.max_tokens;
}
