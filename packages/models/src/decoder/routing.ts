import type { Experts } from '@lorasmith/model-folder';

/** The settings of a router. */
type RouterSettings = Pick<Experts, 'count' | 'perToken' | 'renormalized'>;

/** The experts that tokens pass. There is a row for each token and expert, sorted by expert, then by token. */
export type Routing = {
  /** `[rows]`: the token of each row */
  tokens: Int32Array;
  /** `[tokens × perToken]`: the rows of each token, that of its largest logit first */
  places: Int32Array;
  /** `[tokens × perToken]`: the experts of each token, in the same order */
  experts: Int32Array;
  /** `[experts + 1]`: the first row of each expert, and the number of rows */
  offsets: Int32Array;
  /** `[rows]`: the factor of what the expert gives */
  weights: Float32Array;
  /** `[rows]`: the same without the factor of the expert itself. @defaultValue experts have none */
  unscaled?: Float32Array | undefined;
  /** `[tokens × experts]`: the softmax of all logits, or the sigmoid of each; null where weights are renormalized and depend on their own logits only */
  probabilities: Float32Array | null;
};

/**
 * Chooses the experts of each token: those with the largest logits, of equal ones the first. Their weights are the softmax of all
 * logits, or with `renormalized` that of theirs. A token with a logit that is not a number has weights that are none either, so that
 * its own output says so, and no other token's.
 *
 * @param logits `[tokens × experts]`
 */
export function routeTokens(logits: Float32Array, { count, perToken, renormalized }: RouterSettings): Routing {
  const tokens = logits.length / count;
  const experts = new Int32Array(tokens * perToken);
  const choiceWeights = new Float32Array(tokens * perToken);
  const probabilities = renormalized ? null : new Float32Array(logits.length);
  for (let token = 0; token < tokens; token++) {
    const own = logits.subarray(token * count, (token + 1) * count);
    const chosen = experts.subarray(token * perToken, (token + 1) * perToken);
    chooseLargest(own, chosen);
    const weights = choiceWeights.subarray(token * perToken, (token + 1) * perToken);
    if (own.some(Number.isNaN)) {
      weights.fill(Number.NaN);
      probabilities?.fill(Number.NaN, token * count, (token + 1) * count);
    } else if (probabilities === null) {
      for (const [place, expert] of chosen.entries()) weights[place] = own[expert]!;
      softmax(weights, weights);
    } else {
      const all = probabilities.subarray(token * count, (token + 1) * count);
      softmax(own, all);
      for (const [place, expert] of chosen.entries()) weights[place] = all[expert]!;
    }
  }
  return { ...sortedByExpert(experts, choiceWeights, { count, perToken }), experts, probabilities };
}

/** The indices of the largest numbers, in descending order of these; of equal numbers the first. Any indices where one is not a number. */
function chooseLargest(numbers: Float32Array, indices: Int32Array): void {
  let chosen = 0;
  for (let index = 0; index < numbers.length; index++) {
    const number = numbers[index]!;
    if (chosen === indices.length && !(number > numbers[indices[chosen - 1]!]!)) continue;
    let place = chosen < indices.length ? chosen++ : chosen - 1;
    for (; place > 0 && number > numbers[indices[place - 1]!]!; place--) indices[place] = indices[place - 1]!;
    indices[place] = index;
  }
}

/** Sums in float64. @param result may be the same array */
function softmax(logits: Float32Array, result: Float32Array): void {
  const largest = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  for (const [index, logit] of logits.entries()) result[index] = Math.exp(logit - largest) / sum;
}

/**
 * Numbers of rows, each times the factor of its expert.
 * @param scales `[experts]`
 */
export function timesOfExperts(
  numbers: Float32Array,
  scales: Float32Array,
  { experts, places }: Routing,
): Float32Array {
  const scaled = numbers.slice();
  for (const [choice, expert] of experts.entries()) scaled[places[choice]!]! *= scales[expert]!;
  return scaled;
}

/** The choices of tokens, each expert's tokens one behind the other. */
function sortedByExpert(
  experts: Int32Array,
  choiceWeights: Float32Array,
  { count, perToken }: Pick<RouterSettings, 'count' | 'perToken'>,
): Pick<Routing, 'tokens' | 'places' | 'offsets' | 'weights'> {
  const offsets = new Int32Array(count + 1);
  for (const expert of experts) offsets[expert + 1]! += 1;
  for (let expert = 0; expert < count; expert++) offsets[expert + 1]! += offsets[expert]!;
  const next = offsets.slice();
  const [tokens, places] = [new Int32Array(experts.length), new Int32Array(experts.length)];
  const weights = new Float32Array(experts.length);
  for (const [choice, expert] of experts.entries()) {
    const row = next[expert]!++;
    places[choice] = row;
    tokens[row] = Math.floor(choice / perToken);
    weights[row] = choiceWeights[choice]!;
  }
  return { tokens, places, offsets, weights };
}

/**
 * Gradient of {@link routeTokens} by the logits, through the softmax. Which experts are chosen has none.
 *
 * @param byWeights `[rows]`
 * @returns `[tokens × experts]`
 */
export function gradientByLogits(
  byWeights: Float32Array,
  { places, experts, weights, probabilities }: Routing,
  { count, perToken }: RouterSettings,
): Float32Array {
  const tokens = places.length / perToken;
  const byLogits = new Float32Array(tokens * count);
  for (let token = 0; token < tokens; token++) {
    const first = token * perToken;
    let mean = 0;
    for (let choice = first; choice < first + perToken; choice++) {
      mean += weights[places[choice]!]! * byWeights[places[choice]!]!;
    }
    if (probabilities !== null) {
      for (let logit = token * count; logit < (token + 1) * count; logit++)
        byLogits[logit] = -probabilities[logit]! * mean;
    }
    for (let choice = first; choice < first + perToken; choice++) {
      const weight = weights[places[choice]!]!;
      const by = byWeights[places[choice]!]!;
      const ofAll = probabilities === null ? mean : 0;
      byLogits[token * count + experts[choice]!]! += weight * (by - ofAll);
    }
  }
  return byLogits;
}

/** The settings of a router that scores by sigmoid. */
type SigmoidSettings = RouterSettings & { sigmoid: NonNullable<Experts['sigmoid']> };

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
