import { type DecoderArchitecture, type Experts, lastPartOf, type SparseMlp } from '@lorasmith/model-folder';
import { layerIndexOf } from '../../targets.js';
import { denseTransient, gateUpWidth, trafficPerNumber } from './dense.js';
import type { MlpContext, MlpEstimate } from './mlp-estimate.js';

export const sparseEstimate: MlpEstimate<SparseMlp> = {
  saved({ experts }, context, layer) {
    const { shared } = experts;
    const { architecture, width } = context;
    const ofShared =
      shared === null ? 0 : width * (gateUpWidth(architecture, shared.intermediateSize) + architecture.hiddenSize) + 4;
    return savedByExperts(experts, context, layer) + ofShared;
  },

  transient({ experts }, context) {
    const { shared } = experts;
    const ofExperts = transientInExperts(experts, context, shared === null);
    return Math.max(ofExperts, shared === null ? 0 : denseTransient(shared.intermediateSize, context));
  },

  /** No adapter acts at the router, so it is not among the linear layers. */
  operations: ({ experts }, architecture) =>
    experts.count * architecture.hiddenSize + expertOperations(experts, architecture),

  traffic({ experts }, architecture) {
    const { shared } = experts;
    const ofShared =
      shared === null ? 0 : trafficPerNumber(architecture) * shared.intermediateSize + 24 * architecture.hiddenSize;
    return expertTraffic(experts, architecture) + ofShared;
  },

  expertsPerToken: ({ experts }) => experts.perToken,
};

/** Numbers of each row of experts: its token, its position, its expert and its weight. */
const ROUTING_NUMBERS = 4;

/** Bytes of weighting an activated number, forward and backward: it is cast to float32, multiplied and rounded. */
const WEIGHTING_BYTES = 50;

/** Bytes that experts keep for their backward pass: the rows of those that a token passes, and their indices. */
export function savedByExperts(
  { count, perToken, intermediateSize, renormalized }: Experts,
  { architecture, targets, width }: MlpContext,
  layer: number,
): number {
  const ranks = targets.map(({ name, experts, rank }) =>
    experts === undefined || layerIndexOf(name) !== layer ? 0 : rank,
  );
  const ofRanks = ranks.reduce((sum, rank) => sum + rank, 0);
  const ofRows = perToken * (width * (gateUpWidth(architecture, intermediateSize) + ofRanks) + 4 * ROUTING_NUMBERS);
  return ofRows + (renormalized ? 0 : 4 * count);
}

/**
 * Bytes within the backward pass of the experts that a token passes.
 * @param isAlone true without a shared expert or an MLP next to them
 */
export function transientInExperts(
  { perToken, intermediateSize }: Experts,
  context: MlpContext,
  isAlone: boolean,
): number {
  const { architecture, targets, width } = context;
  const { hiddenSize } = architecture;
  const gateUp = gateUpWidth(architecture, intermediateSize);
  // The product of the activation with the gradient by it is made in float32.
  const ofWeights = 2 * width * intermediateSize + 4 * (width === 4 ? 1 : 3) * intermediateSize;
  // The third part is for what adapters keep of each token, which is little.
  const ofProduct = width * (gateUp + hiddenSize + intermediateSize);
  // An adapter of a parameter reads its input again.
  const learns = (parameter: string) =>
    targets.some(({ name, experts }) => experts !== undefined && lastPartOf(name) === parameter);
  const ofGateUp = learns('gate_up_proj') ? width * (gateUp + 2 * hiddenSize) : 0;
  const ofDown = learns('down_proj') ? width * hiddenSize + ofWeights : 0;
  const ofUnit = denseTransient(intermediateSize, context);
  // The gradient through the router is float32; those through a shared expert or an MLP are in memory at the same time.
  const ofTokens = (4 + (isAlone ? 0 : 2 * width)) * hiddenSize;
  return perToken * Math.max(ofUnit, ofWeights, ofProduct, ofGateUp, ofDown) + ofTokens;
}

/** Multiply-adds of a token in the experts that it passes. */
export function expertOperations({ perToken, intermediateSize }: Experts, { hiddenSize }: DecoderArchitecture): number {
  return perToken * 3 * intermediateSize * hiddenSize;
}

/** Bytes that experts gather, weight and sum of a token. */
export function expertTraffic({ perToken, intermediateSize }: Experts, architecture: DecoderArchitecture): number {
  const perNumber = trafficPerNumber(architecture) + WEIGHTING_BYTES;
  return perToken * (perNumber * intermediateSize + 12 * architecture.hiddenSize);
}
