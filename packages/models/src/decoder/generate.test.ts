import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { liveTensorCount, scope, toFloat32Array } from '@lorasmith/tensor';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Decoder } from './decoder.js';
import { generateGreedily } from './generate.js';
import { loadDecoder } from './load-decoder.js';

const BASE = fileURLToPath(new URL('../../../../test/fixtures/reference/llama-tied/base', import.meta.url));

let decoder: Decoder;
beforeAll(async () => {
  decoder = await loadDecoder(await readModelFolder(BASE), 'float32');
});
afterAll(() => decoder.dispose());

/** Rows of like and of unlike length, so that some are padded and some go on apart. */
const PROMPTS = [[5, 17, 99], [3], range(40, 7), range(36, 11), range(12, 13), [5, 17, 99, 4]].map((ids) =>
  Int32Array.from(ids),
);

function range(length: number, step: number): number[] {
  return Array.from({ length }, (_, i) => 3 + ((i * step) % 150));
}

/** The whole text again for every token. */
function recomputed(prompt: Int32Array, maxNewTokens: number, stopIds: readonly number[]): number[] {
  const ids = [...prompt];
  for (let produced = 0; produced < maxNewTokens; produced++) {
    const logits = scope(() => toFloat32Array(decoder.logits(Int32Array.from(ids), [ids.length])));
    const last = logits.subarray(-decoder.architecture.vocabSize);
    const next = last.indexOf(Math.max(...last));
    if (stopIds.includes(next)) break;
    ids.push(next);
  }
  return ids.slice(prompt.length);
}

test('is the token ranked first of a whole recomputation, for prompts of different lengths together', () => {
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 12, []));
  expect(generateGreedily(decoder, PROMPTS, { maxNewTokens: 12, stopIds: [] })).toEqual(expected);
  // That the rows do not all give the same, which a mistaken cache could give as well.
  expect(new Set(expected.map((ids) => ids.join())).size).toBeGreaterThan(3);
});

test('a row ends at a stop token, which is not part of it; the others go on', () => {
  const free = PROMPTS.map((prompt) => recomputed(prompt, 10, []));
  const stopIds = [free[0]![4]!];
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 10, stopIds));
  expect(expected[0]!.length).toBeLessThan(10);
  expect(expected.some((ids) => ids.length === 10)).toBe(true);
  expect(generateGreedily(decoder, PROMPTS, { maxNewTokens: 10, stopIds })).toEqual(expected);
});

test("by default the model's own end-of-text tokens stop a row", () => {
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 3, decoder.architecture.eosTokenIds));
  expect(generateGreedily(decoder, PROMPTS, { maxNewTokens: 3 })).toEqual(expected);
});

test('no new tokens, and no prompts', () => {
  expect(generateGreedily(decoder, PROMPTS, { maxNewTokens: 0 })).toEqual(PROMPTS.map(() => []));
  expect(generateGreedily(decoder, [], { maxNewTokens: 5 })).toEqual([]);
});

test('leaves nothing alive', () => {
  generateGreedily(decoder, PROMPTS, { maxNewTokens: 4, stopIds: [] });
  const before = liveTensorCount();
  generateGreedily(decoder, PROMPTS, { maxNewTokens: 4, stopIds: [] });
  expect(liveTensorCount()).toBe(before);
});
