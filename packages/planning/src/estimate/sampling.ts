import type { SampleSettings } from '@lorasmith/contracts';
import { type DecoderArchitecture, keyValueNumbers, stateBytesPerText } from '@lorasmith/model-folder';
import type { AnswersLoad } from '../objectives/objective.js';
import type { StepLoad } from './estimate-time.js';

export interface SamplingLoad {
  settings: Pick<SampleSettings, 'max_tokens'>;
  /** The prompts as tokens, or objects of their lengths. */
  prompts: readonly { length: number }[];
  /** Answers to each prompt. They begin together. @defaultValue 1 */
  choices?: number;
  /** Tokens of the cache: prompts beyond them wait until others are answered. @defaultValue `MOST_CACHE_TOKENS` */
  mostCacheTokens?: number;
}

/** Tokens of the cache for answers that are trained on: they are many, and faster in larger batches. */
const MOST_ROLLOUT_TOKENS = 16_384;

/** The answers to some prompts of a job that trains on them. @param prompts as tokens, or objects of their lengths */
export function rolloutLoad(
  { most, choices }: Pick<AnswersLoad, 'most' | 'choices'>,
  prompts: readonly { length: number }[],
): SamplingLoad {
  return {
    settings: { max_tokens: most },
    prompts,
    choices,
    mostCacheTokens: MOST_ROLLOUT_TOKENS,
  };
}

/** Tokens that a key-value cache gets memory for at a time. */
const PAGE_TOKENS = 32;
/** Tokens of the cache: prompts beyond them wait until others are answered. */
const MOST_CACHE_TOKENS = 8_192;

/** The capacity, in tokens, of the cache for a round of samples. */
export function sampleCacheTokens(load: SamplingLoad): number {
  const needed = load.prompts.map((prompt) => cacheTokensOf(prompt, load));
  const all = sumOf(needed, (tokens) => tokens);
  const { mostCacheTokens: most = MOST_CACHE_TOKENS } = load;
  return Math.min(
    all,
    needed.reduce((largest, tokens) => Math.max(largest, tokens), most),
  );
}

/** Bytes of that cache, and of the states of linear attention for all prompts. */
export function sampleCacheBytes(
  architecture: DecoderArchitecture,
  load: SamplingLoad,
  bytesPerNumber: number,
): number {
  const perToken = keyValueNumbers(architecture) * bytesPerNumber;
  return sampleCacheTokens(load) * perToken + textsOf(load) * stateBytesPerText(architecture, bytesPerNumber);
}

function textsOf({ prompts, choices = 1 }: SamplingLoad): number {
  return prompts.length * choices;
}

/** Seconds, least and most tokens of a chunk of prompts, which one step of generation reads: Generation of packages/models. */
const CHUNK_SECONDS = 0.1;
const [LEAST_CHUNK, GREATEST_CHUNK] = [32, 512];

/**
 * Seconds of a round of samples, all prompts together: passes over chunks of the prompts, then one for each further token.
 * @param answerTokens of one answer
 * @param secondsOf a forward pass, or several
 */
export function sampleSeconds(
  load: SamplingLoad,
  answerTokens: number,
  secondsOf: (passes: StepLoad) => number,
): number {
  const { prompts, choices = 1 } = load;
  const read = sumOf(prompts, ({ length }) => length);
  const readSquares = sumOf(prompts, ({ length }) => length ** 2);
  const reading = { tokensPerStep: read, labelsPerStep: textsOf(load), squaresPerStep: readSquares };
  const perToken = secondsOf({ ...reading, microBatchesPerStep: 0 }) / read;
  const chunk = Math.min(GREATEST_CHUNK, Math.max(LEAST_CHUNK, CHUNK_SECONDS / perToken));
  // The pass over the end of a prompt gives the first token.
  const further = textsOf(load) * (answerTokens - 1);
  return secondsOf({
    tokensPerStep: read + further,
    labelsPerStep: textsOf(load) + further,
    squaresPerStep: choices * sumOf(prompts, ({ length }) => (length + answerTokens - 1) ** 2),
    microBatchesPerStep: Math.ceil(read / chunk) + timesFilled(load) * (answerTokens - 1),
  });
}

/** The number of times that the cache is filled with prompts, until all are answered. */
function timesFilled(load: SamplingLoad): number {
  return Math.ceil(sumOf(load.prompts, (prompt) => cacheTokensOf(prompt, load)) / sampleCacheTokens(load));
}

function cacheTokensOf({ length }: { length: number }, { settings, choices = 1 }: SamplingLoad): number {
  return choices * PAGE_TOKENS * Math.ceil((length + settings.max_tokens) / PAGE_TOKENS);
}

function sumOf<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0);
}
