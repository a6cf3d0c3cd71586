import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { liveTensorCount, scope, toFloat32Array } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Decoder } from '../decoder/decoder.js';
import { loadDecoder } from '../decoder/load-decoder.js';
import { generateTexts } from './generate-texts.js';

const BASE = fileURLToPath(new URL('../../../../test/fixtures/reference/llama-tied/base', import.meta.url));

const FAMILIES = fileURLToPath(new URL('../../../../test/fixtures/families', import.meta.url));

let decoder: Decoder;
beforeAll(async () => {
  decoder = await loadDecoder(await readModelFolder(BASE), 'float32');
});
afterAll(() => decoder.dispose());

/** Rows of similar and of different length, so that some are padded and some continue apart. */
const PROMPTS = [[5, 17, 99], [3], range(40, 7), range(36, 11), range(12, 13), [5, 17, 99, 4]].map((ids) =>
  Int32Array.from(ids),
);

function range(length: number, step: number): number[] {
  return Array.from({ length }, (_, i) => 3 + ((i * step) % 150));
}

/** The whole text again for every token. */
function recomputed(
  prompt: Int32Array,
  maxNewTokens: number,
  stopIds: readonly number[],
  model: Decoder = decoder,
): number[] {
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

test('is the token ranked first of a whole recomputation, for prompts of different lengths together', () => {
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 12, []));
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 12, stopIds: [] })).toEqual(expected);
  // That the rows do not all give the same, which a mistaken cache could give as well.
  expect(new Set(expected.map((ids) => ids.join())).size).toBeGreaterThan(3);
});

test('a row ends at a stop token, which is not part of it; the others continue', () => {
  const free = PROMPTS.map((prompt) => recomputed(prompt, 10, []));
  const stopIds = [free[0]![4]!];
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 10, stopIds));
  expect(expected[0]!.length).toBeLessThan(10);
  expect(expected.some((ids) => ids.length === 10)).toBe(true);
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 10, stopIds })).toEqual(expected);
});

test("by default the model's own end-of-text tokens stop a row", () => {
  const expected = PROMPTS.map((prompt) => recomputed(prompt, 3, decoder.architecture.eosTokenIds));
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 3 })).toEqual(expected);
});

test('no new tokens, and no prompts', () => {
  expect(generateTexts(decoder, PROMPTS, { maxNewTokens: 0 })).toEqual(PROMPTS.map(() => []));
  expect(generateTexts(decoder, [], { maxNewTokens: 5 })).toEqual([]);
});

test('leaves nothing alive', () => {
  generateTexts(decoder, PROMPTS, { maxNewTokens: 4, stopIds: [] });
  const before = liveTensorCount();
  generateTexts(decoder, PROMPTS, { maxNewTokens: 4, stopIds: [] });
  expect(liveTensorCount()).toBe(before);
});

/** Beyond windows, and from within a rope's original positions to beyond them. */
// With dynamic scaling, earlier keys stay as they are.
describe.each(readdirSync(FAMILIES).filter((name) => name !== 'rope-dynamic'))('%s', (name) => {
  let model: Decoder;
  beforeAll(async () => {
    model = await loadDecoder(await readModelFolder(join(FAMILIES, name, 'base')), 'float32');
  });
  afterAll(() => model.dispose());
  const prompt = (length: number, step: number) => Int32Array.from({ length }, (_, i) => 3 + ((i * step) % 60));

  test('rows of one length together', () => {
    const prompts = [prompt(13, 7), prompt(13, 11), prompt(13, 17)];
    const expected = prompts.map((ids) => recomputed(ids, 22, [], model));
    expect(generateTexts(model, prompts, { maxNewTokens: 22, stopIds: [] })).toEqual(expected);
  });

  test('rows of different length, where rope is the same for both', () => {
    // A rope that depends on the length is that of the longest row in a group, as in transformers.
    const prompts =
      model.rotary.spanClass(1) === model.rotary.spanClass(36) ? [prompt(18, 7), prompt(4, 11)] : [prompt(18, 7)];
    const expected = prompts.map((ids) => recomputed(ids, 14, [], model));
    expect(generateTexts(model, prompts, { maxNewTokens: 14, stopIds: [] })).toEqual(expected);
  });
});

test('where positions are learned a text ends with the last of them', async () => {
  const model = await loadDecoder(await readModelFolder(join(FAMILIES, 'gpt2/base')), 'float32');
  const long = Int32Array.from({ length: 38 }, (_, i) => 3 + i);
  const short = long.slice(0, 31);
  const texts = generateTexts(model, [long, short], { maxNewTokens: 12, stopIds: [] });
  // 40 positions: tokens at 38 and 39 are read, and the last of them predicts one more.
  expect(texts.map((ids) => ids.length)).toEqual([3, 10]);
  expect(texts[1]).toEqual(recomputed(short, 10, [], model));
  expect(() => model.logits({ ids: new Int32Array(41), rowLengths: [41] })).toThrow(/40 positions/);
  model.dispose();
});
