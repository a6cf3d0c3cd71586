import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { Sampling } from './request.js';
import { chooseToken, Distribution, drawOf, scored, TokenCounts } from './sampling.js';

const LOGITS = Float32Array.from([0.5, 2, -1, 3, 2, -40]);
/** The probabilities of these logits at a temperature. */
const probabilities = (temperature: number) => {
  const weights = [...LOGITS].map((logit) => Math.exp(logit / temperature));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
};
const shares = (temperature: number, topP: number) => {
  const counts = new Array<number>(LOGITS.length).fill(0);
  const draws = 20_000;
  for (let i = 0; i < draws; i++)
    counts[chooseToken(new Distribution(LOGITS), { temperature, topP, seed: 0 }, drawOf(7, 0, i))]! += 1;
  return counts.map((count) => count / draws);
};

test('tokens are drawn as often as they are probable, at any temperature', () => {
  for (const temperature of [0.5, 1, 3]) {
    const expected = probabilities(temperature);
    // Four standard deviations of a share in 20,000 draws are at most 0.015.
    for (const [id, share] of shares(temperature, 1).entries()) {
      expect(Math.abs(share - expected[id]!)).toBeLessThan(0.015);
    }
  }
});

test('topP keeps the fewest tokens that reach it; equal ones both', () => {
  // At temperature 1: 0.54, 0.20, 0.20, 0.04, 0.01.
  expect(shares(1, 0.5).map((share) => share > 0)).toEqual([false, false, false, true, false, false]);
  expect(shares(1, 0.6).map((share) => share > 0)).toEqual([false, true, false, true, true, false]);
  expect(shares(1, 0.96).map((share) => share > 0)).toEqual([true, true, false, true, true, false]);
  const [, second, , first] = shares(1, 0.6);
  expect(first! / second!).toBeCloseTo(Math.E, 0);
  expect(shares(1, 0)[3]).toBe(1);
});

test('temperature 0 takes the first of the greatest; so does a tiny one', () => {
  expect(chooseToken(new Distribution(Float32Array.of(1, 4, 4, 2)), { temperature: 0, topP: 1, seed: 0 }, 0.999)).toBe(
    1,
  );
  expect(chooseToken(new Distribution(LOGITS), { temperature: 1e-6, topP: 1, seed: 0 }, 0.999)).toBe(3);
});

test('the greatest draw takes the last token that has a probability', () => {
  expect(chooseToken(new Distribution(LOGITS), { temperature: 1, topP: 1, seed: 0 }, 1 - 2 ** -32)).toBe(4);
  expect(chooseToken(new Distribution(LOGITS), { temperature: 1, topP: 1, seed: 0 }, 0)).toBe(0);
});

test('many equal tokens of a large vocabulary', () => {
  const flat = new Float32Array(150_000);
  expect(chooseToken(new Distribution(flat), { temperature: 1, topP: 0.5, seed: 0 }, 0.5)).toBe(75_000);
});

test('draws are the same in every release, and differ by seed, choice and token', () => {
  const draws = [drawOf(1, 0, 0), drawOf(2, 0, 0), drawOf(1, 1, 0), drawOf(1, 0, 1)];
  expect(new Set(draws).size).toBe(4);
  expect(draws[0]).toBe(drawOf(1, 0, 0));
  expect(draws.map((draw) => Math.round(draw * 1e6))).toEqual([175_876, 858_896, 118_321, 408_127]);
});

test('log-probabilities, and the most probable tokens in their order', () => {
  const expected = probabilities(1).map(Math.log);
  const token = scored(new Distribution(LOGITS), 0, 3);
  expect(token.id).toBe(0);
  expect(token.logprob).toBeCloseTo(expected[0]!, 6);
  expect(token.top.map(({ id }) => id)).toEqual([3, 1, 4]);
  for (const { id, logprob } of token.top) expect(logprob).toBeCloseTo(expected[id]!, 6);
  expect(scored(new Distribution(LOGITS), 2, 9).top.map(({ id }) => id)).toEqual([3, 1, 4, 0, 2, 5]);
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
    const logits = Float32Array.from(reference.logits);
    const counts = new TokenCounts(reference.prompt);
    for (const id of reference.produced) counts.add(id);
    counts.penalize(logits, sampling);
    // The draw walks the ids in order: the draws at which the token changes are the sums of the probabilities.
    const steps = 20_000;
    const shares = new Array<number>(expected.length).fill(0);
    for (let i = 0; i < steps; i++)
      shares[chooseToken(new Distribution(logits), sampling, (i + 0.5) / steps)]! += 1 / steps;
    for (const [id, share] of shares.entries()) {
      expect([settings, id, Math.abs(share - expected[id]!) <= 1 / steps + 1e-6]).toEqual([settings, id, true]);
    }
  }
});
