import type { MachineEngine, MachineRates } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { passTokensOf, SHARED_PASS_TOKENS } from './pass-tokens.js';

const GPU: MachineEngine = { kind: 'cuda', card: null, self_test: null };
/** Rates in bfloat16 as a card's data sheet lets expect them: 10¹² operations and 10⁹ bytes a second. */
const ratesOf = (teraflops: number, gigabytes: number, layer_overhead_ms = 0.37): MachineRates => ({
  matmul_gflops: 1e3 * teraflops,
  attention_gflops: 1,
  weight_gbytes: gigabytes,
  pass_gbytes: 1,
  layer_overhead_ms,
});
const tokensOn = (rates: MachineRates, engine = GPU) =>
  passTokensOf({ engine, rates: { float32: ratesOf(1, 1), bfloat16: rates } });
/** The time of a frozen model, forward and backward. */
const secondsOf = (tokens: number, parameters: number, teraflops: number) =>
  (4 * parameters * tokens) / (1e12 * teraflops);

test('a processor shares passes of 1,024 tokens, whatever was measured', () => {
  const engine: MachineEngine = { ...GPU, kind: 'cpu' };
  expect(tokensOn(ratesOf(650, 2700), engine)).toBe(1024);
});

test.each([
  ['H100', 650, 2700, 16_384],
  ['A100', 240, 1600, 6144],
  ['RTX 4090', 150, 900, 3072],
  ['L4', 70, 250, 2048],
])(
  '%s shares passes of as many tokens as it computes in a second of a large model',
  (_, teraflops, gigabytes, tokens) => {
    expect(tokensOn(ratesOf(teraflops, gigabytes))).toBe(tokens);
    expect(secondsOf(tokens, 8e9, teraflops)).toBeLessThanOrEqual(1);
  },
);

test('a pass is no longer than the rate of products needs', () => {
  // Calls that cost nothing leave the reading of weights: 20 times its time are 20 · 650 / 2.7 tokens.
  expect(tokensOn(ratesOf(650, 2700, 0))).toBe(4096);
});

test('a card that computes slowly has passes of no fewer tokens than a processor', () => {
  expect(tokensOn(ratesOf(1, 100))).toBe(SHARED_PASS_TOKENS);
});

test('a card without bfloat16 goes by its rates in float32', () => {
  expect(passTokensOf({ engine: GPU, rates: { float32: ratesOf(240, 1600), bfloat16: null } })).toBe(6144);
});
