import type { SparseMlp } from '@lorasmith/model-folder';
import { densePassing, gateUpWidth, passedPerNumber } from './dense.js';
import { expertOperations, passedByExperts, passingInExperts, savedByExperts } from './experts.js';
import type { MlpEstimate } from './mlp-estimate.js';

export const sparseEstimate: MlpEstimate<SparseMlp> = {
  saved({ experts }, context, layer) {
    const { shared } = experts;
    const { architecture, width } = context;
    const ofShared =
      shared === null ? 0 : width * (gateUpWidth(architecture, shared.intermediateSize) + architecture.hiddenSize) + 4;
    return savedByExperts(experts, context, layer) + ofShared;
  },

  passing({ experts }, context) {
    const { shared } = experts;
    const ofExperts = passingInExperts(experts, context, shared === null);
    return Math.max(ofExperts, shared === null ? 0 : densePassing(shared.intermediateSize, context));
  },

  /** No adapter acts at the router, so it is not among the linear layers. */
  operations: ({ experts }, architecture) =>
    experts.count * architecture.hiddenSize + expertOperations(experts, architecture),

  passed({ experts }, architecture) {
    const { shared } = experts;
    const ofShared =
      shared === null ? 0 : passedPerNumber(architecture) * shared.intermediateSize + 24 * architecture.hiddenSize;
    return passedByExperts(experts, architecture) + ofShared;
  },

  expertsPerToken: ({ experts }) => experts.perToken,
};
