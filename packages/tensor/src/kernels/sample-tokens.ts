import { elementType, execute, intAttribute } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, tensorOf, toFloat32Array, toInt32Array } from '../transfer.js';

/** The choice of one text's next token: see {@link Kernels.sampleTokens}. */
export interface TokenChoice {
  /** The token that is there already and only scored; null: one is chosen. */
  given: number | null;
  /** 0: the most probable token, the first of equal ones. */
  temperature: number;
  /** Only this many most probable tokens, and those as probable as the last of them; 0: all. */
  topK: number;
  /** Only the most probable tokens that together reach this probability, and those as probable as the last of them; 1: all. */
  topP: number;
  /** Only tokens at least this many times as probable as the most probable one; 0: all. */
  minP: number;
  /** Uniform in [0, 1), used in steps of 2^-32. */
  draw: number;
  /** Null: none. */
  penalties: TokenPenalties | null;
  /** Bit `id % 32` of word `id / 32` is set for each allowed token; words that are missing allow none. Null: all are allowed. */
  allowed: Uint32Array | null;
  /** The count of most probable tokens whose log-probabilities are wanted with that of the token; null: not even that. */
  logprobs: number | null;
}

/** Changes to the logits of some tokens: `logit / repetition` where it is positive, else `logit * repetition`; less what is subtracted. */
export interface TokenPenalties {
  /** Greater than 0; 1 changes nothing. */
  repetition: number;
  /** Different tokens. */
  ids: Int32Array;
  /** `[ids]` */
  subtracted: Float32Array;
}

/** A token with its natural log-probability under the model: of the logits as they are, before temperature, penalties and `topP`. */
export interface TokenLogprob {
  id: number;
  logprob: number;
}

export interface ChosenToken {
  id: number;
  /** Null where it is not wanted. */
  logprob: number | null;
  /** The most probable tokens, the first of equal ones first. */
  top: readonly TokenLogprob[];
}

/**
 * The log-probability of a token.
 * @param below the greatest logit less that of the token
 * @param sum of the weights of all tokens at temperature 1, in units of 2^-40
 */
export function logprobOf(below: number, sum: number): number {
  return 0 - below - Math.log(sum / 2 ** 40);
}

// What the op computes: see Kernels, and native/ops/sample_tokens/sample_tokens.cc.

/** Words of a choice, as token_draw.h has them. */
const CHOICE_WORDS = 11;
/** Words of a result before the most probable tokens. */
const RESULT_WORDS = 4;
/** `topP` as a word: all tokens. */
const ALL_OF_THEM = 2 ** 32 - 1;

export function fusedSampleTokens(logits: Tensor, choices: readonly TokenChoice[]): (ChosenToken | null)[] {
  const vocab = logits.shape[1]!;
  checkChoices(logits, choices);
  const top = Math.max(0, ...choices.map(({ logprobs }) => logprobs ?? 0));
  const words = wordsOf(choices, vocab);
  const results = scope(() => {
    const inputs = [logits, tensorOf(words, [words.length])];
    const attributes = [elementType(logits), intAttribute('top', top)];
    return toInt32Array(execute('LorasmithSampleTokens', attributes, inputs));
  });
  const size = RESULT_WORDS + 2 * top;
  return choices.map((choice, row) => resultOf(results.subarray(row * size, (row + 1) * size), choice));
}

/** Chooses on the processor, from logits that are copied there. */
export function rawSampleTokens(logits: Tensor, choices: readonly TokenChoice[]): (ChosenToken | null)[] {
  const vocab = logits.shape[1]!;
  checkChoices(logits, choices);
  const all = scope(() => toFloat32Array(cast(logits, 'float32')));
  return choices.map((choice, row) => {
    const own = all.subarray(row * vocab, (row + 1) * vocab);
    const greatest = firstGreatest(own);
    const id = greatest === null ? null : (choice.given ?? chosenOf(own, greatest, choice));
    return id === null ? null : scored(own, greatest!, id, choice.logprobs);
  });
}

/** Checks what the op on a GPU cannot check. */
function checkChoices(logits: Tensor, choices: readonly TokenChoice[]): void {
  const [rows, vocab] = logits.shape as [number, number];
  if (choices.length !== rows) throw new Error(`${choices.length} choices for ${rows} rows of logits`);
  const check = (id: number) => {
    if (id < 0 || id >= vocab) throw new Error(`token ${id} of a vocabulary of ${vocab}`);
  };
  for (const { given, penalties } of choices) {
    if (given !== null) check(given);
    penalties?.ids.forEach(check);
    if (penalties !== null && penalties.ids.length !== penalties.subtracted.length) {
      throw new Error(`${penalties.subtracted.length} numbers for ${penalties.ids.length} tokens with penalties`);
    }
  }
}

/** All choices, then their lists of penalties and masks: one upload. */
function wordsOf(choices: readonly TokenChoice[], vocab: number): Int32Array {
  const maskWords = Math.ceil(vocab / 32);
  const penaltyWords = choices.map(({ penalties }) => 2 * (penalties?.ids.length ?? 0));
  const masks = choices.filter(({ allowed }) => allowed !== null).length;
  const listed = penaltyWords.reduce((sum, count) => sum + count, 0);
  const words = new Int32Array(choices.length * CHOICE_WORDS + listed + masks * maskWords);
  const floats = new Float32Array(words.buffer);
  let next = choices.length * CHOICE_WORDS;
  for (const [row, { given, temperature, topK, topP, minP, draw, penalties, allowed, logprobs }] of choices.entries()) {
    const at = row * CHOICE_WORDS;
    words[at] = given ?? -1;
    floats[at + 1] = scaleOf(temperature);
    words[at + 2] = topK;
    words[at + 3] = inUnits(topP);
    floats[at + 4] = minP;
    words[at + 5] = inUnits(draw);
    floats[at + 6] = penalties?.repetition ?? 1;
    words[at + 7] = next;
    words[at + 8] = penalties?.ids.length ?? 0;
    for (const [i, id] of penalties?.ids.entries() ?? []) {
      words[next + 2 * i] = id;
      floats[next + 2 * i + 1] = penalties!.subtracted[i]!;
    }
    next += penaltyWords[row]!;
    words[at + 9] = allowed === null ? -1 : next;
    if (allowed !== null) {
      words.set(allowed.subarray(0, maskWords), next);
      next += maskWords;
    }
    words[at + 10] = Number(logprobs !== null);
  }
  return words;
}

function resultOf(words: Int32Array, { logprobs }: TokenChoice): ChosenToken | null {
  const id = words[0]!;
  if (id < 0) return null;
  if (logprobs === null) return { id, logprob: null, top: [] };
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const sum = (words[1]! >>> 0) + words[2]! * 2 ** 32;
  const top = Array.from({ length: logprobs }, (_, place) => {
    const at = RESULT_WORDS + 2 * place;
    return { id: words[at]!, logprob: logprobOf(floats[at + 1]!, sum) };
  });
  return { id, logprob: logprobOf(floats[3]!, sum), top: top.filter((one) => one.id >= 0) };
}

/** The first of the greatest logits; null if a number is not finite, or none is above -infinity. */
function firstGreatest(logits: Float32Array): number | null {
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    if (!(logits[id]! < Number.POSITIVE_INFINITY)) return null;
    if (logits[id]! > logits[best]!) best = id;
  }
  return logits[best] === Number.NEGATIVE_INFINITY ? null : best;
}

function chosenOf(logits: Float32Array, greatest: number, choice: TokenChoice): number | null {
  const { penalties, allowed, temperature } = choice;
  const isChanged = penalties !== null || allowed !== null;
  const own = isChanged ? adjusted(logits, choice) : logits;
  const first = isChanged ? firstGreatest(own) : greatest;
  return first === null || temperature === 0 ? first : drawn(own, first, choice);
}

function adjusted(logits: Float32Array, { penalties, allowed }: TokenChoice): Float32Array {
  const own = logits.slice();
  if (allowed !== null) {
    for (let id = 0; id < own.length; id++) {
      if (((allowed[id >>> 5] ?? 0) & (1 << (id & 31))) === 0) own[id] = Number.NEGATIVE_INFINITY;
    }
  }
  if (penalties === null) return own;
  const repetition = Math.fround(penalties.repetition);
  for (const [i, id] of penalties.ids.entries()) own[id] = penalised(own[id]!, repetition, penalties.subtracted[i]!);
  return own;
}

function weigh(logits: Float32Array, greatest: number, scale: number): Float32Array {
  const most = logits[greatest]!;
  return logits.map((logit) => tokenWeight(Math.fround(most - logit), scale));
}

function drawn(logits: Float32Array, greatest: number, choice: TokenChoice): number {
  const weights = weigh(logits, greatest, scaleOf(choice.temperature));
  // Less than one unit counts for nothing.
  let least = 2 ** -40;
  if (choice.topK > 0 && choice.topK < weights.length) {
    least = Math.max(
      least,
      leastOf(weights, (place) => place + 1 >= choice.topK),
    );
  }
  const share = inUnits(choice.topP);
  if (share !== ALL_OF_THEM) {
    const wanted = partOf(sumOfWeights(weights, least), share);
    let sum = 0n;
    const reaches = (_: number, weight: number) => {
      sum += BigInt(fixedWeight(weight));
      return sum >= wanted;
    };
    least = Math.max(least, leastOf(weights, reaches));
  }
  least = Math.max(least, Math.fround(choice.minP));
  let left = partOf(sumOfWeights(weights, least), inUnits(choice.draw));
  return weights.findIndex((weight) => {
    if (weight < least) return false;
    left -= BigInt(fixedWeight(weight));
    return left < 0n;
  });
}

/** The first weight, from the greatest down, at which it is enough; 0 if it never is. */
function leastOf(weights: Float32Array, isEnough: (place: number, weight: number) => boolean): number {
  const sorted = weights.filter((weight) => weight > 0).sort();
  const count = sorted.length;
  for (let place = 0; place < count; place++) {
    const weight = sorted[count - 1 - place]!;
    if (isEnough(place, weight)) return weight;
  }
  return 0;
}

function scored(logits: Float32Array, greatest: number, id: number, logprobs: number | null): ChosenToken {
  if (logprobs === null) return { id, logprob: null, top: [] };
  const sum = Number(sumOfWeights(weigh(logits, greatest, scaleOf(1))));
  const logprob = (token: number) => logprobOf(Math.fround(logits[greatest]! - logits[token]!), sum);
  const top = mostProbable(logits, logprobs).map((token) => ({ id: token, logprob: logprob(token) }));
  return { id, logprob: logprob(id), top };
}

/** The ids of the greatest logits above -infinity, the greatest first; of equal ones the first. */
function mostProbable(logits: Float32Array, count: number): number[] {
  const ids: number[] = [];
  if (count === 0) return ids;
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (logit === Number.NEGATIVE_INFINITY || (ids.length === count && logit <= least)) continue;
    let place = ids.length;
    while (place > 0 && logits[ids[place - 1]!]! < logit) place--;
    ids.splice(place, 0, id);
    ids.length = Math.min(ids.length, count);
    least = logits[ids.at(-1)!]!;
  }
  return ids;
}

// The arithmetic of native/ops/sample_tokens/token_draw.h: the same bits. Each operation is rounded to float32 by itself.

const { fround } = Math;

/** A weight is a multiple of 2^-40, so sums of weights are exact in any order. */
const WEIGHT_UNIT = 2 ** 40;
/** 2^-40 is the least weight that counts. */
const LEAST_EXPONENT = 40;
/** 2^-x as a polynomial, the highest power first; its last coefficient is 1. */
const POLYNOMIAL = Float32Array.of(
  ...[-1.5279194e-5, 1.5506794e-4, -1.3333748e-3, 9.617928e-3],
  ...[-5.5504106e-2, 2.402265e-1, -6.931472e-1, 1],
);

/** Sums of this many weights are exact as numbers. */
const EXACT_WEIGHTS = 4096;

/** The factor of the difference of two logits before {@link tokenWeight}; 0 for temperature 0. */
export function scaleOf(temperature: number): number {
  if (temperature === 0) return 0;
  // Neither 0, which is no temperature, nor infinite.
  return fround(Math.min(3e38, Math.max(1e-37, Math.LOG2E / temperature)));
}

/** `2^-x` of the product x = below · scale, rounded to float32: within 2^-23 of itself; 0 where it is less than 2^-40. */
export function tokenWeight(below: number, scale: number): number {
  const product = fround(below * scale);
  if (!(product < LEAST_EXPONENT)) return 0;
  const n = Math.trunc(fround(product + 0.5));
  const f = fround(product - n);
  let p = POLYNOMIAL[0]!;
  for (let k = 1; k < 8; k++) p = fround(fround(p * f) + POLYNOMIAL[k]!);
  return p * 2 ** -n;
}

/** A weight in units of 2^-40, rounded down. */
export const fixedWeight = (weight: number): number => Math.floor(weight * WEIGHT_UNIT);

/** The exact sum of the weights of at least `least`, in units of 2^-40. */
export function sumOfWeights(weights: Float32Array, least = 0): bigint {
  let sum = 0n;
  for (let first = 0; first < weights.length; first += EXACT_WEIGHTS) {
    const end = Math.min(weights.length, first + EXACT_WEIGHTS);
    let part = 0;
    for (let i = first; i < end; i++) if (weights[i]! >= least) part += fixedWeight(weights[i]!);
    sum += BigInt(part);
  }
  return sum;
}

/** A part of a sum, rounded down. @param part in units of 2^-32 */
export const partOf = (sum: bigint, part: number): bigint => (sum * BigInt(part)) >> 32n;

/** A share from 0 to 1 in units of 2^-32; for 1 the greatest. */
export const inUnits = (share: number): number => Math.min(2 ** 32 - 1, Math.floor(share * 2 ** 32));

/** A logit with its penalties. */
export function penalised(logit: number, repetition: number, subtracted: number): number {
  return fround(fround(logit > 0 ? logit / repetition : logit * repetition) - subtracted);
}
