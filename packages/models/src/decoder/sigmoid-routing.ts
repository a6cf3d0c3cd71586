import type { Experts } from '@lorasmith/model-folder';
import { chooseLargest, type RouterSettings, type Routing, sortedByExpert } from './routing.js';

/** The settings of a router that scores by sigmoid. */
export type SigmoidSettings = RouterSettings & { sigmoid: NonNullable<Experts['sigmoid']> };

/** Keeps a sum of weights from 0, as in transformers. */
const LEAST_SUM = 1e-20;

/**
 * Chooses the experts of each token by the sigmoid of its logits plus a correction (DeepSeek-V3, arXiv:2412.19437): those with the
 * largest sums, of equal ones the first, in the groups whose two largest sum to most. Their weights are the sigmoids alone, with
 * `renormalized` over their sum, times a factor. A token with a logit that is not a number has weights that are none either.
 *
 * @param logits `[tokens × experts]`
 * @param correction `[experts]`
 */
export function routeBySigmoid(
  logits: Float32Array,
  correction: Float32Array,
  { count, perToken, renormalized, sigmoid: { groups, groupsPerToken, scale } }: SigmoidSettings,
): Routing {
  const tokens = logits.length / count;
  const experts = new Int32Array(tokens * perToken);
  const choiceWeights = new Float32Array(tokens * perToken);
  const scores = logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const sums = new Float32Array(count);
  for (let token = 0; token < tokens; token++) {
    const own = scores.subarray(token * count, (token + 1) * count);
    for (let expert = 0; expert < count; expert++) sums[expert] = own[expert]! + correction[expert]!;
    leaveOutGroups(sums, groups, groupsPerToken);
    const chosen = experts.subarray(token * perToken, (token + 1) * perToken);
    chooseLargest(sums, chosen);
    const divisor = own.some(Number.isNaN) ? Number.NaN : renormalized ? sumOf(own, chosen) : 1;
    for (const [place, expert] of chosen.entries()) {
      choiceWeights[token * perToken + place] = (own[expert]! / divisor) * scale;
    }
  }
  return { ...sortedByExpert(experts, choiceWeights, { count, perToken }), experts, probabilities: scores };
}

/** Makes the experts of all groups but some unchoosable: those stay whose two largest numbers sum to most. */
function leaveOutGroups(sums: Float32Array, groups: number, chosen: number): void {
  if (chosen === groups) return;
  const size = sums.length / groups;
  const ofGroups = Float32Array.from({ length: groups }, (_, group) => {
    const [first = 0, second = 0] = sums.slice(group * size, (group + 1) * size).sort((a, b) => b - a);
    return first + second;
  });
  const kept = new Int32Array(chosen);
  chooseLargest(ofGroups, kept);
  for (let group = 0; group < groups; group++) {
    if (!kept.includes(group)) sums.fill(Number.NEGATIVE_INFINITY, group * size, (group + 1) * size);
  }
}

function sumOf(scores: Float32Array, experts: Int32Array): number {
  return experts.reduce((sum, expert) => sum + scores[expert]!, 0) + LEAST_SUM;
}

/**
 * Gradient of {@link routeBySigmoid} by the logits. Which experts are chosen has none, nor has the correction.
 *
 * @param byWeights `[rows]`
 * @returns `[tokens × experts]`
 */
export function gradientBySigmoid(
  byWeights: Float32Array,
  { places, experts, weights, probabilities }: Routing,
  { count, perToken, renormalized, sigmoid: { scale } }: SigmoidSettings,
): Float32Array {
  const scores = probabilities!;
  const tokens = places.length / perToken;
  const byLogits = new Float32Array(tokens * count);
  for (let token = 0; token < tokens; token++) {
    const own = scores.subarray(token * count, (token + 1) * count);
    const choices = Array.from({ length: perToken }, (_, place) => token * perToken + place);
    // With weights w = scale · s / Σs: ∂L/∂s = (scale · ∂L/∂w - Σ w ∂L/∂w) / Σs.
    const common = choices.reduce((sum, choice) => sum + weights[places[choice]!]! * byWeights[places[choice]!]!, 0);
    const divisor = renormalized ? sumOf(own, experts.subarray(token * perToken, (token + 1) * perToken)) : 1;
    for (const choice of choices) {
      const score = own[experts[choice]!]!;
      const byScore = (scale * byWeights[places[choice]!]! - (renormalized ? common : 0)) / divisor;
      byLogits[token * count + experts[choice]!] = byScore * score * (1 - score);
    }
  }
  return byLogits;
}
