import { SeededRandom } from '@lorasmith/seeded-random';
import type { Sampling, ScoredToken, TokenLogprob } from './request.js';

/** The most probable token; the first of equal ones. */
export function mostProbable(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}

/** The draw for a token of a choice, uniform in [0, 1): a function of the three numbers alone. */
export function drawOf(seed: number, choice: number, token: number): number {
  return new SeededRandom(seed, `choice ${choice} token ${token}`).next();
}

/**
 * Chooses a token: with p = softmax(logits / temperature), the smallest set of most probable tokens whose p together is at
 * least `topP` (nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751), with those as probable as its last; of the set, the token at which the sum of p, in the
 * order of the ids, first exceeds `draw` times the sum of all. Sums are float64.
 * @param logits `[vocab]`, finite
 * @param draw uniform in [0, 1)
 */
export function chooseToken(logits: Float32Array, { temperature, topP }: Sampling, draw: number): number {
  if (temperature === 0) return mostProbable(logits);
  const greatest = logits[mostProbable(logits)]!;
  const weights = new Float64Array(logits.length);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    const weight = Math.exp((logits[id]! - greatest) / temperature);
    weights[id] = weight;
    sum += weight;
  }
  const least = topP < 1 ? leastWeight(weights, topP * sum) : 0;
  let kept = 0;
  for (const weight of weights) if (weight >= least) kept += weight;
  let left = draw * kept;
  let chosen = 0;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id]!;
    if (weight < least || weight === 0) continue;
    chosen = id;
    left -= weight;
    if (left < 0) break;
  }
  return chosen;
}

/** The least of the greatest weights that together reach `wanted`; equal ones are all kept. The greatest weight is 1. */
function leastWeight(weights: Float64Array, wanted: number): number {
  // Few tokens have most of the weight: only those above a threshold are sorted.
  for (let threshold = 2 ** -8; ; threshold = threshold > 2 ** -64 ? threshold / 2 ** 8 : 0) {
    const candidates = weights.filter((weight) => weight >= threshold).sort();
    let sum = 0;
    for (let i = candidates.length - 1; i >= 0; i--) {
      sum += candidates[i]!;
      if (sum >= wanted) return candidates[i]!;
    }
    if (threshold === 0) return 0;
  }
}

/** The logarithm of the sum of exponentials, in float64. */
function logSum(logits: Float32Array): number {
  const greatest = logits[mostProbable(logits)]!;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - greatest);
  return greatest + Math.log(sum);
}

/**
 * @param logits `[vocab]`
 * @param count of most probable tokens
 */
export function scored(logits: Float32Array, id: number, count: number): ScoredToken {
  const total = logSum(logits);
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
