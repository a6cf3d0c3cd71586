import type { DenseMlp, ParallelMlp } from '@lorasmith/model-folder';
import { denseEstimate } from './dense.js';
import type { MlpEstimate } from './mlp-estimate.js';
import { expertOperations, expertTraffic, savedByExperts, transientInExperts } from './sparse.js';

/** The MLP in parallel with the experts. */
function mlpOf({ intermediateSize }: ParallelMlp): DenseMlp {
  return { kind: 'dense', intermediateSize };
}

export const parallelEstimate: MlpEstimate<ParallelMlp> = {
  /** The bytes of experts, of the MLP, and of the norms of what both give. */
  saved(own, context, layer) {
    const ofNorms = 2 * (context.width * context.architecture.hiddenSize + 4);
    return savedByExperts(own.experts, context, layer) + denseEstimate.saved(mlpOf(own), context, layer) + ofNorms;
  },

  transient: (own, context) =>
    Math.max(denseEstimate.transient(mlpOf(own), context), transientInExperts(own.experts, context, false)),

  operations: ({ experts }, architecture) => expertOperations(experts, architecture),

  /** MLP and experts are each normed, and read the stream times their own factors. */
  traffic: (own, architecture) =>
    expertTraffic(own.experts, architecture) +
    denseEstimate.traffic(mlpOf(own), architecture) +
    96 * architecture.hiddenSize,

  expertsPerToken: ({ experts }) => experts.perToken,
};
