import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { chooseKernels, liveTensorCount, scope, toFloat32Array } from '@lorasmith/tensor';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Decoder } from '../decoder/decoder.js';
import { loadDecoder } from '../decoder/load-decoder.js';
import { generateTexts } from './generation.js';

const kernels = chooseKernels('raw');

const fixture = (name: string) => fileURLToPath(new URL(`../../../../test/fixtures/${name}/base`, import.meta.url));

let decoder: Decoder;
beforeAll(async () => {
  decoder = await loadDecoder(await readModelFolder(fixture('reference/llama-tied')), 'float32', kernels);
});
afterAll(() => decoder.dispose());

/** Prompts of different length; one is longer than a page. */
const PROMPTS = [[5, 17, 99], [3], range(40, 7), range(12, 13), [5, 17, 99, 4]].map((ids) => Int32Array.from(ids));

function range(length: number, step: number): number[] {
  return Array.from({ length }, (_, i) => 3 + ((i * step) % 150));
}

/** The whole text again for every token. */
function recomputed(prompt: Int32Array, maxNewTokens: number, stopIds: readonly number[], model = decoder): number[] {
  const ids = [...prompt];
  for (let produced = 0; produced < maxNewTokens; produced++) {
    const logits = scope(() => toFloat32Array(model.logits({ ids: Int32Array.from(ids), rowLengths: [ids.length] })));
    const last = logits.subarray(-model.architecture.vocabSize);
    const next = last.indexOf(Math.max(...last));
    if (stopIds.includes(next)) break;
    ids.push(next);
  }
  return ids.slice(prompt.length);
}

test('a text ends at a stop token, which is not part of it; the others continue', () => {
  const free = PROMPTS.map((prompt) => recomputed(prompt, 8, []));
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 8, stopIds: [] })).toEqual(free);
  const stopIds = [free[0]![4]!];
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 8, stopIds));
  expect(expected[0]!.length).toBeLessThan(8);
  expect(expected.some((ids) => ids.length === 8)).toBe(true);
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 8, stopIds })).toEqual(expected);
});

test("by default the model's own end-of-text tokens stop a text", () => {
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 3, decoder.architecture.eosTokenIds));
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 3 })).toEqual(expected);
});

test('no new tokens, and no prompts; nothing stays alive', () => {
  const before = liveTensorCount();
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 0 })).toEqual(PROMPTS.map(() => []));
  expect(generateTexts(decoder, [], { maxNewTokens: 5 })).toEqual([]);
  expect(liveTensorCount()).toBe(before);
});

test('where positions are learned a text ends with the last of them', async () => {
  const model = await loadDecoder(await readModelFolder(fixture('families/gpt2')), 'float32', kernels);
  const long = Int32Array.from({ length: 38 }, (_, i) => 3 + i);
  const short = long.slice(0, 31);
  const texts = generateTexts(model, [long, short], { maxNewTokens: 12, stopIds: [] });
  // 40 positions: tokens at 38 and 39 are read, and the last of them predicts one more.
  expect(texts.map((ids) => ids.length)).toEqual([3, 10]);
  expect(texts[1]).toEqual(recomputed(short, 10, [], model));
  expect(() => model.logits({ ids: new Int32Array(41), rowLengths: [41] })).toThrow(/40 positions/);
  expect(() => generateTexts(model, [new Int32Array(41)], { maxNewTokens: 1 })).toThrow(/40 positions/);
  model.dispose();
});
