import { expect, test } from 'vitest';
import { scope } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import { type ChosenToken, rawSampleTokens, type TokenChoice, tokenWeight } from './sample-tokens.js';

const CHOICE: TokenChoice = {
  ...{ given: null, temperature: 1, topK: 0, topP: 1, minP: 0, draw: 0 },
  ...{ penalties: null, allowed: null, logprobs: null },
};

function chosen(logits: Float32Array, choices: readonly Partial<TokenChoice>[]): (ChosenToken | null)[] {
  const rows = Float32Array.from({ length: choices.length * logits.length }, (_, i) => logits[i % logits.length]!);
  const all = choices.map((one) => ({ ...CHOICE, ...one }));
  return scope(() => rawSampleTokens(tensorOf(rows, [choices.length, logits.length]), all));
}

const ids = (logits: Float32Array, choices: readonly Partial<TokenChoice>[]) =>
  chosen(logits, choices).map((one) => one?.id ?? null);

/** mulberry32: 32 bits. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The probabilities in float64, and how near a threshold of them is to another result. */
function distribution(logits: Float32Array, { temperature, topK, topP, minP, allowed, penalties }: TokenChoice) {
  const adjusted = [...logits];
  for (const [i, id] of penalties?.ids.entries() ?? []) {
    const { repetition, subtracted } = penalties!;
    adjusted[id] = (adjusted[id]! > 0 ? adjusted[id]! / repetition : adjusted[id]! * repetition) - subtracted[i]!;
  }
  const logit = (id: number) =>
    allowed === null || (allowed[id >>> 5]! >>> (id & 31)) & 1 ? adjusted[id]! : -Infinity;
  const order = adjusted.map((_, id) => id).sort((a, b) => logit(b) - logit(a));
  const greatest = logit(order[0]!);
  let weights = adjusted.map((_, id) => Math.exp((logit(id) - greatest) / temperature));
  const keep = (least: number) => {
    weights = weights.map((weight) => (weight >= least * (1 - 1e-6) ? weight : 0));
  };
  const total = () => weights.reduce((sum, weight) => sum + weight, 0);
  let nearness = Number.POSITIVE_INFINITY;
  if (topK > 0 && topK < weights.length) keep(weights[order[topK - 1]!]!);
  if (topP < 1) {
    const wanted = topP * total();
    let sum = 0;
    let last = 0;
    for (const id of order) {
      last = weights[id]!;
      sum += last;
      nearness = Math.min(nearness, Math.abs(sum - wanted) / total());
      if (sum >= wanted) break;
    }
    keep(last);
  }
  if (minP > 0) keep(minP);
  return { probabilities: weights.map((weight) => weight / total()), nearness };
}

test('the weights are those of exp, within 2^-23 of themselves', () => {
  for (let below = 0; below < 39; below += 0.0137) {
    const exact = 2 ** -Math.fround(Math.fround(below) * 1);
    expect(Math.abs(tokenWeight(Math.fround(below), 1) / exact - 1)).toBeLessThan(2 ** -23);
  }
  expect([0, 40, 1e30, Number.POSITIVE_INFINITY, Number.NaN].map((x) => tokenWeight(x, 1))).toEqual([1, 0, 0, 0, 0]);
});

test('tokens are drawn as often as they are probable', () => {
  const random = randomNumbers(11);
  const logits = Float32Array.from({ length: 40 }, () => 6 * random() - 3);
  for (const settings of [{}, { temperature: 0.6 }, { temperature: 3 }, { topK: 9 }, { topP: 0.7 }, { minP: 0.2 }]) {
    const draws = 8_000;
    const counts = new Array<number>(40).fill(0);
    const choices = Array.from({ length: draws }, () => ({ ...settings, draw: random() }));
    for (const id of ids(logits, choices)) counts[id!]! += 1;
    const { probabilities } = distribution(logits, { ...CHOICE, ...settings });
    const possible = probabilities.filter((p) => p > 0).length;
    const square = probabilities.reduce((sum, p, id) => {
      if (p > 0) return sum + (counts[id]! - draws * p) ** 2 / (draws * p);
      expect(counts[id]).toBe(0);
      return sum;
    }, 0);
    // Four standard deviations of the chi-square distribution.
    const degrees = possible - 1;
    expect(square).toBeLessThan(degrees + 4 * Math.sqrt(2 * degrees));
  }
});

test('a draw chooses the token that a walk over exact probabilities does, with any settings', () => {
  const random = randomNumbers(5);
  const vocab = 60;
  let skipped = 0;
  for (let row = 0; row < 3_000; row++) {
    // In steps of an eighth, so that several tokens are as probable.
    const logits = Float32Array.from({ length: vocab }, () => Math.round(60 * random() - 30) / 8);
    const pick = <Value>(values: readonly Value[]) => values[Math.floor(random() * values.length)]!;
    const choice: TokenChoice = {
      ...CHOICE,
      temperature: pick([0.3, 1, 1, 2.5]),
      topK: pick([0, 1, 3, 20, vocab, 1_000]),
      topP: pick([1, 1, 0.9, 0.5, 0.05, 0]),
      minP: pick([0, 0, 0.01, 0.3, 1]),
      draw: random(),
      allowed: random() < 0.3 ? Uint32Array.of(random() * 2 ** 32, (random() * 2 ** 32) | 1) : null,
      penalties:
        random() < 0.3
          ? { repetition: pick([1, 1.5, 0.5]), ids: Int32Array.of(3, 9, 41), subtracted: Float32Array.of(0, 0.5, -1) }
          : null,
    };
    const { probabilities, nearness } = distribution(logits, choice);
    const [id] = ids(logits, [choice]);
    let below = 0;
    for (let other = 0; other < id!; other++) below += probabilities[other]!;
    const inside = Math.min(choice.draw - below, below + probabilities[id!]! - choice.draw);
    if (nearness < 1e-6) skipped++;
    else expect([row, inside >= -1e-6]).toEqual([row, true]);
  }
  expect(skipped).toBeLessThan(30);
});

test('at the ends of each setting', () => {
  const logits = Float32Array.of(0.5, 2, -1, 3, 2, -40);
  const last = 1 - 2 ** -32;
  expect(ids(logits, [{ draw: 0 }, { draw: last }, { temperature: 1e-6, draw: last }])).toEqual([0, 4, 3]);
  expect(
    ids(logits, [
      { temperature: 1e-300, draw: last },
      { temperature: 1e300, draw: last },
    ]),
  ).toEqual([3, 5]);
  expect(
    ids(logits, [
      { topP: 0, draw: last },
      { minP: 1, draw: last },
      { topK: 1, draw: last },
    ]),
  ).toEqual([3, 3, 3]);
  // The second and the third of the greatest are equal: both are kept.
  expect(
    ids(logits, [
      { topK: 2, draw: last },
      { topK: 2, draw: 0 },
    ]),
  ).toEqual([4, 1]);
  expect(ids(new Float32Array(7), [{ draw: 0.5 }, { draw: last }, { temperature: 0 }])).toEqual([3, 6, 0]);
  expect(ids(Float32Array.of(5), [{ draw: last, topK: 1 }])).toEqual([0]);
  expect(ids(new Float32Array(150_000), [{ topP: 0.5, draw: 0.5 }])).toEqual([75_000]);
});

test('-infinity is never drawn; a NaN or an infinite logit gives no token, nor does a text without an allowed one', () => {
  const none = Number.NEGATIVE_INFINITY;
  expect(ids(Float32Array.of(none, 1, none), [{ draw: 0 }, { draw: 0.99 }, { temperature: 0 }])).toEqual([1, 1, 1]);
  for (const broken of [Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(ids(Float32Array.of(1, broken, 2), [{}, { temperature: 0 }, { given: 0 }])).toEqual([null, null, null]);
  }
  expect(ids(Float32Array.of(none, none), [{}, { temperature: 0 }])).toEqual([null, null]);
  const logits = Float32Array.of(1, 2, none);
  expect(ids(logits, [{ allowed: Uint32Array.of(1), draw: 0.9 }, { allowed: Uint32Array.of(4) }])).toEqual([0, null]);
  expect(ids(logits, [{ allowed: new Uint32Array(0), temperature: 0 }])).toEqual([null]);
});

test('log-probabilities are those of the logits as they are, whatever is drawn', () => {
  const logits = Float32Array.of(0.5, 2, -1, 3, 2, -40);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
  const changed = { temperature: 0.1, topK: 2, allowed: Uint32Array.of(4), logprobs: 9 };
  const [given, drawn, none] = chosen(logits, [{ given: 0, logprobs: 3 }, changed, {}]);
  expect(given!.id).toBe(0);
  expect(given!.logprob).toBeCloseTo(Math.log(Math.exp(0.5) / sum), 6);
  expect(given!.top.map(({ id }) => id)).toEqual([3, 1, 4]);
  expect(drawn!.id).toBe(2);
  expect(drawn!.top.map(({ id }) => id)).toEqual([3, 1, 4, 0, 2, 5]);
  for (const { id, logprob } of drawn!.top) expect(logprob).toBeCloseTo(Math.log(Math.exp(logits[id]!) / sum), 6);
  expect(none).toEqual({ id: 0, logprob: null, top: [] });
  const [alone] = chosen(Float32Array.of(-3), [{ logprobs: 1 }]);
  expect(alone).toEqual({ id: 0, logprob: 0, top: [{ id: 0, logprob: 0 }] });
});

test('what is not in the vocabulary is rejected with a message', () => {
  const logits = Float32Array.of(1, 2);
  const penalties = { repetition: 1, ids: Int32Array.of(2), subtracted: Float32Array.of(1) };
  expect(() => chosen(logits, [{ given: 2 }])).toThrow('token 2 of a vocabulary of 2');
  expect(() => chosen(logits, [{ penalties }])).toThrow('token 2 of a vocabulary of 2');
  const uneven = { ...penalties, ids: Int32Array.of(1, 0) };
  expect(() => chosen(logits, [{ penalties: uneven }])).toThrow('1 numbers for 2 tokens with penalties');
  expect(() => scope(() => rawSampleTokens(tensorOf(logits, [1, 2]), []))).toThrow('0 choices for 1 rows of logits');
});
