import { PAGE_TOKENS } from '@lorasmith/tensor';
import type { Decoder } from '../decoder/decoder.js';
import type { ModelAdapter } from '../pass.js';
import { Generation } from './generation.js';
import type { Sampling } from './request.js';
import { pagesOf } from './text.js';

export interface GenerateOptions {
  maxNewTokens: number;
  /** @defaultValue the most probable token */
  sampling?: Sampling;
  /** A text ends when it produces one of these. @defaultValue the model's end-of-text tokens */
  stopIds?: readonly number[];
  /** The adapter of each prompt; null: the base alone. @defaultValue the base alone for all */
  adapters?: readonly (ModelAdapter | null)[];
}

/** Texts that are continued at once. */
const MOST_TEXTS = 16;

/**
 * Continues prompts, and returns when all are done. For a process that does nothing else meanwhile.
 * @param prompts token ids, none empty
 * @returns the new tokens of each prompt, without the stop token
 * @throws Error when the numbers of a text are not finite, or the engine fails
 */
export function generateTexts(decoder: Decoder, prompts: readonly Int32Array[], options: GenerateOptions): number[][] {
  const { maxNewTokens, sampling, stopIds, adapters } = options;
  const pages = prompts.map((ids) => pagesOf(ids.length, maxNewTokens)).sort((a, b) => b - a);
  const atOnce = pages.slice(0, MOST_TEXTS).reduce((sum, count) => sum + count, 0);
  const generation = new Generation(decoder, { cacheTokens: atOnce * PAGE_TOKENS, maxTexts: MOST_TEXTS, stepMs: 1000 });
  const texts = prompts.map((): number[] => []);
  let failure: Error | null = null;
  try {
    for (const [index, promptIds] of prompts.entries()) {
      const request = { promptIds, adapter: adapters?.[index] ?? null, maxNewTokens, sampling, stopIds };
      generation.add(request, (event) => {
        if (event.kind === 'token') texts[index]!.push(event.id);
        if (event.kind === 'failed') failure = event.error;
      });
    }
    while (generation.hasWork && failure === null) generation.step();
  } finally {
    generation.dispose();
  }
  if (failure !== null) throw failure;
  return texts;
}
