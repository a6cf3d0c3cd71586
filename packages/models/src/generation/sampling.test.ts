import { readFile } from 'node:fs/promises';
import { chooseKernels, scope, tensorOf } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import type { Sampling } from './request.js';
import { drawOf, hasPenalties, TokenCounts } from './text.js';

const kernels = chooseKernels('raw');

test('draws are the same in every release, and differ by seed, choice and token', () => {
  const draws = [drawOf(1, 0, 0), drawOf(2, 0, 0), drawOf(1, 1, 0), drawOf(1, 0, 1)];
  expect(new Set(draws).size).toBe(4);
  expect(draws[0]).toBe(drawOf(1, 0, 0));
  expect(draws.map((draw) => Math.round(draw * 1e6))).toEqual([175_876, 858_896, 118_321, 408_127]);
});

test('penalties list each token once: for repetition those of the prompt, too', () => {
  const counts = new TokenCounts([4, 7, 4]);
  for (const id of [7, 2, 7]) counts.add(id);
  const sampling = { temperature: 1, topP: 1, seed: 0, frequencyPenalty: 0.5, presencePenalty: 1 };
  expect(counts.penalties(sampling)).toEqual({
    repetition: 1,
    ids: Int32Array.of(7, 2),
    subtracted: Float32Array.of(2, 1.5),
  });
  const repeated = counts.penalties({ ...sampling, repetitionPenalty: 1.25 });
  expect(repeated).toEqual({
    repetition: 1.25,
    ids: Int32Array.of(7, 2, 4),
    subtracted: Float32Array.of(2, 1.5, 0),
  });
  expect([hasPenalties(sampling), hasPenalties({ temperature: 1, topP: 1, seed: 0 })]).toEqual([true, false]);
});

interface SamplingReference {
  logits: number[];
  prompt: number[];
  produced: number[];
  cases: (Partial<Sampling> & { probabilities: number[] })[];
}

test("probabilities with top_k, top_p and penalties are those of transformers' processors", async () => {
  const file = new URL('../../test/sampling-reference.json', import.meta.url);
  const reference: SamplingReference = JSON.parse(await readFile(file, 'utf8'));
  expect(reference.cases).toHaveLength(9);
  for (const { probabilities: expected, ...settings } of reference.cases) {
    const sampling = { temperature: 1, topP: 1, seed: 0, ...settings };
    const counts = new TokenCounts(reference.prompt);
    for (const id of reference.produced) counts.add(id);
    // The draw walks the ids in order: the draws at which the token changes are the sums of the probabilities.
    const steps = 2_000;
    const vocab = reference.logits.length;
    const rows = Float32Array.from({ length: steps * vocab }, (_, i) => reference.logits[i % vocab]!);
    const { temperature, topP, topK = 0 } = sampling;
    const choices = Array.from({ length: steps }, (_, i) => ({
      ...{ given: null, temperature, topP, topK, minP: 0, draw: (i + 0.5) / steps },
      ...{ penalties: counts.penalties(sampling), allowed: null, logprobs: null },
    }));
    const chosen = scope(() => kernels.of('float32').sampleTokens(tensorOf(rows, [steps, vocab]), choices));
    const shares = new Array<number>(vocab).fill(0);
    for (const one of chosen) shares[one!.id]! += 1 / steps;
    for (const [id, share] of shares.entries()) {
      expect([settings, id, Math.abs(share - expected[id]!) <= 1 / steps + 1e-6]).toEqual([settings, id, true]);
    }
  }
});
