import type { SparseMlp } from '../architecture.js';
import { gateUpDown } from './dense.js';
import { contradictingTensors, expertParameters, expertTensors } from './experts.js';
import type { MlpKind } from './mlp-kind.js';

export const sparseKind: MlpKind<SparseMlp> = {
  linears({ experts: { shared } }, architecture, make) {
    if (shared === null) return { mlp: null, sharedGate: null, router: null };
    const paths = architecture.names.experts!.shared!;
    return {
      mlp: gateUpDown(architecture, paths, shared.intermediateSize, make),
      sharedGate: paths.gate === null ? null : make.linear(paths.gate, architecture.hiddenSize, 1, false),
      router: null,
    };
  },

  norms: () => [],

  tensors(_, architecture, layer) {
    const { router, correction, biases, gateUp, down } = expertTensors(architecture, layer);
    const ofRouter = correction === null ? [router] : [router, correction];
    return [...ofRouter, ...Object.values(biases ?? {}), ...gateUp, ...down];
  },

  parameters: (_, architecture, layer) => expertParameters(architecture, layer),

  contradicting: (_, architecture, layer) => contradictingTensors(architecture, layer),

  /** The weighted activation and the sum of experts; of a shared one its gate, its output, that times the gate, and the sum of both. */
  roundings({ experts: { shared } }, { names }) {
    if (shared === null) return 2;
    return 2 + (names.experts!.shared!.gate === null ? 2 : 4);
  },
};
