import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, loadDecoder, tokenBatchOf } from '@lorasmith/models';
import {
  argMax,
  chooseKernels,
  type FloatDType,
  gather,
  scope,
  tensorOf,
  toFloat32Array,
  toInt32Array,
} from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { usualCases } from '../../../test/usual-cases.js';
import { expectGenerations, readExpected } from '../test/expected-generation.js';
import { NextToken } from './objectives/next-token/next-token.js';

interface Row {
  input_ids: number[];
  /** The position at which the completion starts. */
  prompt_tokens: number;
  completion_tokens: number;
  completion_nll_sum: number;
  nll_first_five: number[];
  top1_after_prompt: number;
}

const fromRoot = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const MODEL = join(process.env.MODELS_DIR ?? fromRoot('models'), 'SmolLM2-135M-Instruct');

let rows: Row[];
beforeAll(async () => {
  if (!existsSync(join(MODEL, 'config.json'))) {
    throw new Error(`${MODEL} is missing. Run \`npm test\`: its set-up makes the model, and then these tests can run.`);
  }
  const expected = await readFile(fromRoot('test/fixtures/reference/smollm2/expected.json'), 'utf8');
  rows = (JSON.parse(expected) as { rows: Row[] }).rows;
});

interface Likelihoods {
  lossSum: number;
  firstFive: number[];
  firstRanked: number;
}

/** The likelihoods of the row that transformers gave, computed here. */
function likelihoodsOf(decoder: Decoder, row: Row): Likelihoods {
  const ids = Int32Array.from(row.input_ids);
  const prompt = row.prompt_tokens;
  const batch = tokenBatchOf([{ ids, trained: Uint8Array.from(ids, (_, position) => Number(position >= prompt)) }]);
  const { lossSum, normaliser: labels } = new NextToken(decoder).loss(batch, { adapters: [] });
  expect(labels).toBe(row.completion_tokens);
  return scope(() => {
    const places = tensorOf(
      Int32Array.from({ length: 5 }, (_, i) => prompt - 1 + i),
      [5],
    );
    // Nothing depends on the tokens that follow.
    const read = ids.subarray(0, prompt + 4);
    const logits = gather(decoder.logits({ ids: read, rowLengths: [read.length] }), places);
    const values = toFloat32Array(logits);
    const vocab = decoder.architecture.vocabSize;
    const firstFive = [0, 1, 2, 3, 4].map((i) => {
      const own = values.subarray(i * vocab, (i + 1) * vocab);
      const largest = own.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
      const sum = own.reduce((total, value) => total + Math.exp(value - largest), 0);
      return largest + Math.log(sum) - own[ids[prompt + i]!]!;
    });
    return { lossSum, firstFive, firstRanked: toInt32Array(argMax(logits))[0]! };
  });
}

/**
 * The tolerance of one token's likelihood. float32: that of the reference. bfloat16: a number is rounded by at most 2⁻⁹ of
 * itself, some 16 times in each of 30 layers; independent errors add up like a random walk, to 2⁻⁹ √(16 · 30) = 4 % of the
 * spread of the logits, which is about 3 here: 0.13, and four times that for the greatest of many. A sum over n tokens may
 * be off by √n times as much.
 */
const TOKEN_TOLERANCE: Record<FloatDType, number> = { float32: 1e-4, bfloat16: 4 * 0.13 };

describe.each(usualCases(['float32', 'bfloat16'] as const, 1))('SmolLM2-135M-Instruct in %s', (dtype) => {
  let decoder: Decoder;
  beforeAll(async () => {
    decoder = await loadDecoder(await readModelFolder(MODEL), dtype, chooseKernels('raw'));
  });
  afterAll(() => decoder?.dispose());

  test('gives the likelihoods of transformers for eight real conversations', () => {
    const tolerance = TOKEN_TOLERANCE[dtype];
    let difference = 0;
    let tokens = 0;
    let agreeing = 0;
    expect(rows).toHaveLength(8);
    for (const row of rows) {
      const { lossSum, firstFive, firstRanked } = likelihoodsOf(decoder, row);
      expect(greatestDifference(firstFive, row.nll_first_five)).toBeLessThan(tolerance);
      const own = lossSum - row.completion_nll_sum;
      expect(Math.abs(own)).toBeLessThan(tolerance * Math.sqrt(row.completion_tokens));
      difference += own;
      tokens += row.completion_tokens;
      if (firstRanked === row.top1_after_prompt) agreeing++;
    }
    expect(Math.abs(difference)).toBeLessThan(tolerance * Math.sqrt(tokens));
    // In bfloat16 two tokens that are nearly as likely may change places.
    expect(agreeing).toBeGreaterThanOrEqual(dtype === 'float32' ? 8 : 6);
  });

  test.runIf(dtype === 'float32')("answers with the tokens of transformers' generate", async () => {
    const expected = await readExpected(fromRoot('test/fixtures/reference/smollm2'));
    const fused = await loadDecoder(await readModelFolder(MODEL), dtype, chooseKernels('fused'));
    expectGenerations(fused, expected, null, { cacheTokens: 256, maxTexts: 2 });
    fused.dispose();
  });
});
