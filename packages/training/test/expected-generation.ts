import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Generation, type GenerationOptions, type ModelAdapter, type ScoredToken } from '@lorasmith/models';
import { expect } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';

/** A greedy text of transformers, as test/fixtures/make-generations.py writes it. */
export interface ExpectedGeneration {
  /** True if the trained adapter acts. */
  adapter: boolean;
  prompt: number[];
  /** Log-probabilities of the tokens after the first. */
  promptLogprobs: number[];
  tokens: number[];
  logprobs: number[];
  /** The second most probable token in the place of each. */
  second: number[];
  secondLogprobs: number[];
}

export async function readExpected(folder: string): Promise<ExpectedGeneration[]> {
  return JSON.parse(await readFile(join(folder, 'generation.json'), 'utf8')) as ExpectedGeneration[];
}

/** Float32, of two implementations; the expected ones are rounded to 5 places. */
const TOLERANCE = 1e-4;

/** Generates all texts at once, and compares tokens and log-probabilities. */
export function expectGenerations(
  decoder: ConstructorParameters<typeof Generation>[0],
  expected: readonly ExpectedGeneration[],
  adapter: ModelAdapter | null,
  options: GenerationOptions,
): void {
  const generation = new Generation(decoder, options);
  const tokens = expected.map((): ScoredToken[] => []);
  const prompts = expected.map((): ScoredToken[] => []);
  for (const [index, { adapter: adapted, prompt, tokens: produced }] of expected.entries()) {
    const request = {
      promptIds: Int32Array.from(prompt),
      adapter: adapted ? adapter : null,
      maxNewTokens: produced.length,
      stopIds: [],
      logprobs: 2,
      promptLogprobs: 0,
    };
    generation.add(request, (event) => {
      if (event.kind === 'prompt-scored') prompts[index]!.push(event.token);
      if (event.kind === 'token') tokens[index]!.push(event.scored!);
      if (event.kind === 'failed') throw event.error;
    });
  }
  while (generation.hasWork) generation.step();
  generation.dispose();
  for (const [index, one] of expected.entries()) {
    const own = tokens[index]!;
    expect(own.map(({ id }) => id)).toEqual(one.tokens);
    expect(own.map(({ top }) => top.map(({ id }) => id))).toEqual(one.tokens.map((id, i) => [id, one.second[i]!]));
    expect(
      greatestDifference(
        own.map(({ logprob }) => logprob),
        one.logprobs,
      ),
    ).toBeLessThan(TOLERANCE);
    expect(
      greatestDifference(
        own.map(({ top }) => top[1]!.logprob),
        one.secondLogprobs,
      ),
    ).toBeLessThan(TOLERANCE);
    expect(
      greatestDifference(
        prompts[index]!.map(({ logprob }) => logprob),
        one.promptLogprobs,
      ),
    ).toBeLessThan(TOLERANCE);
    expect(prompts[index]!.map(({ id }) => id)).toEqual(one.prompt.slice(1));
  }
}
