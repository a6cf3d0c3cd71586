import { sessionRowOf } from '../../packages/client/dist/index.js';

/**
 * A loop of one's own: direct preference optimization (DPO), whose loss is computed here, and whose gradients are computed by the service.
 *
 * @typedef {import('../../packages/client/dist/index.js').Client} Client
 * @typedef {import('../../packages/client/dist/index.js').SessionRow} SessionRow
 * @typedef {import('../../packages/client/dist/index.js').SavedWeights} SavedWeights
 * @typedef {{ chosen: SessionRow, rejected: SessionRow }} Pair
 *
 * @typedef {object} Loop
 * @property {string} dataset id of a dataset with pairs of answers
 * @property {string} baseModel
 * @property {number} steps
 * @property {number} batchSize pairs of a step
 * @property {number} rank of the adapter
 * @property {number} beta how much a difference from the base model counts
 * @property {import('../../packages/client/dist/index.js').StepSettings} step
 * @property {number} [seed]
 * @property {string} name of the saved weights
 *
 * @param {Client} client
 * @param {Loop} loop
 * @param {(text: string) => void} [say]
 * @returns {Promise<{ losses: number[], saved: SavedWeights }>}
 */
export async function trainOnPairs(client, loop, say = () => {}) {
  const { baseModel: base_model, rank, seed } = loop;
  const pairs = await pairsOf(client, loop);
  const session = await client.createTrainingSession({ base_model, rank, ...(seed !== undefined && { seed }) });
  try {
    // A new adapter changes nothing, so the model is still the reference.
    const reference = sumsOf(pairs, (await session.forward(bothOf(pairs))).logprobs);
    const losses = [];
    for (let step = 0; step < loop.steps; step++) {
      const at = Array.from({ length: loop.batchSize }, (_, i) => (step * loop.batchSize + i) % pairs.length);
      const batch = at.map((i) => /** @type {Pair} */ (pairs[i]));
      const before = at.map((i) => /** @type {number} */ (reference[i]));
      const gradient = session.forwardBackwardCustom(bothOf(batch), (logprobs) =>
        lossOf(batch, sumsOf(batch, logprobs), before, loop.beta),
      );
      const { loss } = await gradient;
      const { gradient_norm } = await session.optimStep(loop.step);
      losses.push(loss);
      say(`step ${step + 1}: loss ${loss.toFixed(4)}, gradient ${gradient_norm?.toFixed(4)}`);
    }
    return { losses, saved: await session.saveWeights(loop.name, { overwrite: true }) };
  } finally {
    await session.close();
  }
}

/**
 * The pairs of a dataset as tokens, of which those of the answers have the weight 1.
 *
 * @param {Client} client
 * @param {Loop} loop
 * @returns {Promise<Pair[]>}
 */
async function pairsOf(client, { dataset, baseModel: base_model }) {
  const pairs = [];
  for (let after = 0; ; ) {
    const { data, has_more } = await client.datasetRows(dataset, { base_model, after, limit: 100 });
    for (const { line, tokens, rejected_tokens } of data) {
      if (tokens === null || rejected_tokens === undefined) throw new Error(`Line ${line} is no pair of answers.`);
      pairs.push({ chosen: sessionRowOf(tokens), rejected: sessionRowOf(rejected_tokens) });
      after = line;
    }
    if (!has_more) return pairs;
  }
}

const bothOf = (/** @type {Pair[]} */ pairs) => pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]);

/**
 * The logarithm of how much more probable the model finds the chosen answer of each pair than the rejected one.
 *
 * @param {Pair[]} pairs
 * @param {Float32Array[]} logprobs of both rows of each pair
 */
function sumsOf(pairs, logprobs) {
  const sums = bothOf(pairs).map(({ inputs }, row) =>
    Array.from(inputs?.weights ?? []).reduce((sum, weight, i) => sum + weight * (logprobs[row]?.[i] ?? 0), 0),
  );
  return pairs.map((_, i) => (sums[2 * i] ?? 0) - (sums[2 * i + 1] ?? 0));
}

/**
 * The mean loss of pairs, and its derivatives: https://arxiv.org/abs/2305.18290, equation 7.
 *
 * @param {Pair[]} pairs
 * @param {number[]} differences of the model
 * @param {number[]} reference of the base model
 * @param {number} beta
 */
function lossOf(pairs, differences, reference, beta) {
  const margins = differences.map((difference, i) => beta * (difference - (reference[i] ?? 0)));
  const loss = margins.reduce((sum, margin) => sum + Math.log1p(Math.exp(-margin)), 0) / pairs.length;
  const gradients = bothOf(pairs).map(({ inputs }, row) => {
    const margin = margins[row >> 1] ?? 0;
    const sign = row % 2 === 0 ? -1 : 1;
    const scale = (sign * beta) / (1 + Math.exp(margin)) / pairs.length;
    return Array.from(inputs?.weights ?? [], (weight) => scale * weight);
  });
  return { loss, gradients };
}
