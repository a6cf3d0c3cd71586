import type { DecoderArchitecture, ParallelMlp } from '../architecture.js';
import { type ParallelMlpNames, tensorOfLayer } from '../decoder-names.js';
import type { RequiredTensor } from '../families/family.js';
import { gateUpDown } from './dense.js';
import type { MlpKind } from './mlp-kind.js';
import { contradictingTensors, expertParameters, expertsOf, expertTensors } from './sparse.js';

/** The further module paths of a layer with an MLP in parallel with experts, relative to it. */
export function parallelMlpNames({ names }: DecoderArchitecture): ParallelMlpNames {
  return names.experts!.beside!;
}

/** The weights of the router's norm `[hidden]`, and the factors of the experts' weights `[experts]`. */
export function parallelMlpScales(
  architecture: DecoderArchitecture,
  layer: number,
): { router: RequiredTensor; experts: RequiredTensor } {
  const { routerScale, expertScales } = parallelMlpNames(architecture);
  const within = (path: string, shape: number[]) => ({ name: tensorOfLayer(architecture.names, layer, path), shape });
  return {
    router: within(routerScale, [architecture.hiddenSize]),
    experts: within(expertScales, [expertsOf(architecture, layer).count]),
  };
}

export const parallelKind: MlpKind<ParallelMlp> = {
  /** The router is among them: adapters may act at it. */
  linears: (own, architecture, make) => ({
    mlp: gateUpDown(architecture, architecture.names, own.intermediateSize ?? architecture.intermediateSize, make),
    sharedGate: null,
    router: make.linear(architecture.names.experts!.router, architecture.hiddenSize, own.experts.count, false),
  }),

  norms(_, architecture) {
    const { norm, branchNorm, mlpBranchNorm } = parallelMlpNames(architecture);
    return [norm, branchNorm, mlpBranchNorm];
  },

  tensors(_, architecture, layer) {
    const { gateUp, down } = expertTensors(architecture, layer);
    const { router, experts } = parallelMlpScales(architecture, layer);
    return [router, experts, ...gateUp, ...down];
  },

  parameters: (_, architecture, layer) => expertParameters(architecture, layer),

  contradicting: (_, architecture, layer) => contradictingTensors(architecture, layer),

  /** Two of experts; gate and up, activated and down, what both read, the norms of what they give, and the sum of both. */
  roundings: () => 2 + 8,
};
