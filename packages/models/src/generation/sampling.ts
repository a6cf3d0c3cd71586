import { SeededRandom } from '@lorasmith/seeded-random';
import type { Sampling, ScoredToken, TokenLogprob } from './request.js';

/** The model's distribution of a next token. A draw and log-probabilities of the same one need the same sum over the vocabulary. */
export class Distribution {
  /** `[vocab]`, no NaN, at least one finite. */
  readonly logits: Float32Array;
  /** The most probable token; the first of equal ones. */
  readonly mostProbable: number;
  #unscaled: TokenWeights | null = null;

  constructor(logits: Float32Array) {
    this.logits = logits;
    let best = 0;
    for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
    this.mostProbable = best;
  }

  /** Probabilities at a temperature, all by the same factor. Temperature 1 is computed once: do not change what it gives. */
  weightsAt(temperature: number): TokenWeights {
    if (temperature !== 1) return this.#weights(temperature);
    this.#unscaled ??= this.#weights(1);
    return this.#unscaled;
  }

  /** The logarithm of the sum of exponentials, in float64. */
  get logSum(): number {
    return this.logits[this.mostProbable]! + Math.log(this.weightsAt(1).sum);
  }

  #weights(temperature: number): TokenWeights {
    const { logits } = this;
    const greatest = logits[this.mostProbable]!;
    const weights = new Float64Array(logits.length);
    let sum = 0;
    for (let id = 0; id < weights.length; id++) {
      const weight = Math.exp((logits[id]! - greatest) / temperature);
      weights[id] = weight;
      sum += weight;
    }
    return { weights, sum };
  }
}

/** Probabilities times a factor. */
interface TokenWeights {
  /** `[vocab]`; that of the most probable token is 1. */
  weights: Float64Array;
  /** The sum of all weights, in the order of the ids. */
  sum: number;
}

/** The draw for a token of a choice, uniform in [0, 1): a function of the three numbers alone. */
export function drawOf(seed: number, choice: number, token: number): number {
  return new SeededRandom(seed, `choice ${choice} token ${token}`).next();
}

/**
 * Chooses a token: with p = softmax(logits / temperature), the `topK` most probable tokens, with those as probable as the
 * last; of these the smallest set of most probable ones whose p together is at least `topP` of theirs (nucleus sampling,
 * Holtzman et al. 2020, arXiv:1904.09751), with those as probable as its last; of the set, the token at which the sum of p,
 * in the order of the ids, first exceeds `draw` times the sum of all. Sums are float64.
 * @param draw uniform in [0, 1)
 */
export function chooseToken(of: Distribution, { temperature, topP, topK = 0 }: Sampling, draw: number): number {
  if (temperature === 0) return of.mostProbable;
  let { weights, sum } = of.weightsAt(temperature);
  if (topK > 0 && topK < weights.length) ({ weights, sum } = without(weights, leastWeight(weights, { count: topK })));
  if (topP < 1) ({ weights, sum } = without(weights, leastWeight(weights, { sum: topP * sum })));
  let left = draw * sum;
  let chosen = 0;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id]!;
    if (weight === 0) continue;
    chosen = id;
    left -= weight;
    if (left < 0) break;
  }
  return chosen;
}

/** The weights, with 0 for those below the least. */
function without(weights: Float64Array, least: number): TokenWeights {
  const kept = weights.map((weight) => (weight < least ? 0 : weight));
  return { weights: kept, sum: kept.reduce((sum, weight) => sum + weight, 0) };
}

/** The least of the greatest weights that are `count`, or together reach `sum`. The greatest weight is 1. */
function leastWeight(weights: Float64Array, wanted: { count: number } | { sum: number }): number {
  const { count, sum: wantedSum } = { count: Number.POSITIVE_INFINITY, sum: Number.POSITIVE_INFINITY, ...wanted };
  // Few tokens have most of the weight: only those above a threshold are sorted.
  for (let threshold = 2 ** -8; ; threshold = threshold > 2 ** -64 ? threshold / 2 ** 8 : 0) {
    const candidates = weights.filter((weight) => weight >= threshold).sort();
    let sum = 0;
    for (let i = candidates.length - 1; i >= 0; i--) {
      sum += candidates[i]!;
      if (sum >= wantedSum || candidates.length - i >= count) return candidates[i]!;
    }
    if (threshold === 0) return 0;
  }
}

/** How often each token is in a text, for penalties. */
export class TokenCounts {
  readonly #prompt: ReadonlySet<number>;
  readonly #produced = new Map<number, number>();

  constructor(promptIds: Iterable<number>) {
    this.#prompt = new Set(promptIds);
  }

  add(id: number): void {
    this.#produced.set(id, (this.#produced.get(id) ?? 0) + 1);
  }

  /**
   * Changes logits by the penalties: first `repetitionPenalty` (Keskar et al. 2019, arXiv:1909.05858, as transformers has it),
   * then `frequencyPenalty` and `presencePenalty` as the OpenAI API defines them.
   */
  penalize(logits: Float32Array, { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 }: Sampling): void {
    if (repetitionPenalty !== 1) {
      const penalize = (id: number) => {
        const logit = logits[id]!;
        logits[id] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      };
      for (const id of this.#prompt) penalize(id);
      for (const id of this.#produced.keys()) if (!this.#prompt.has(id)) penalize(id);
    }
    for (const [id, count] of this.#produced) logits[id]! -= count * frequencyPenalty + presencePenalty;
  }
}

/** Whether the penalties change any logit. */
export function hasPenalties({ repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 }: Sampling): boolean {
  return repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
}

/** @param count of most probable tokens */
export function scored({ logits, logSum: total }: Distribution, id: number, count: number): ScoredToken {
  const withLogprob = (token: number): TokenLogprob => ({ id: token, logprob: logits[token]! - total });
  return { ...withLogprob(id), top: greatestOf(logits, count).map(withLogprob) };
}

/** The ids of the greatest logits, the greatest first; of equal ones the first. */
function greatestOf(logits: Float32Array, count: number): number[] {
  const ids: number[] = [];
  if (count === 0) return ids;
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (ids.length === count && logit <= least) continue;
    let place = ids.length;
    while (place > 0 && logits[ids[place - 1]!]! < logit) place--;
    ids.splice(place, 0, id);
    ids.length = Math.min(ids.length, count);
    least = logits[ids.at(-1)!]!;
  }
  return ids;
}
