import type { BesideMlp, DecoderArchitecture } from '../architecture.js';
import { type BesideMlpNames, tensorOfLayer } from '../decoder-names.js';
import type { RequiredTensor } from '../families/family.js';
import { gateUpDown } from './dense.js';
import type { MlpKind } from './mlp-kind.js';
import { contradictingTensors, expertParameters, expertsOf, expertTensors } from './sparse.js';

/** The module paths of what such a layer has more than others, relative to it. */
export function besideNames({ names }: DecoderArchitecture): BesideMlpNames {
  return names.experts!.beside!;
}

/** The weights of the router's norm `[hidden]`, and the factors of the experts' weights `[experts]`. */
export function besideScales(
  architecture: DecoderArchitecture,
  layer: number,
): { router: RequiredTensor; experts: RequiredTensor } {
  const { routerScale, expertScales } = besideNames(architecture);
  const within = (path: string, shape: number[]) => ({ name: tensorOfLayer(architecture.names, layer, path), shape });
  return {
    router: within(routerScale, [architecture.hiddenSize]),
    experts: within(expertScales, [expertsOf(architecture, layer).count]),
  };
}

export const besideKind: MlpKind<BesideMlp> = {
  /** The router is among them: adapters may act at it. */
  linears: (own, architecture, make) => ({
    mlp: gateUpDown(architecture, architecture.names, own.intermediateSize ?? architecture.intermediateSize, make),
    sharedGate: null,
    router: make.linear(architecture.names.experts!.router, architecture.hiddenSize, own.experts.count, false),
  }),

  norms(_, architecture) {
    const { norm, branchNorm, mlpBranchNorm } = besideNames(architecture);
    return [norm, branchNorm, mlpBranchNorm];
  },

  tensors(_, architecture, layer) {
    const { gateUp, down } = expertTensors(architecture, layer);
    const { router, experts } = besideScales(architecture, layer);
    return [router, experts, ...gateUp, ...down];
  },

  parameters: (_, architecture, layer) => expertParameters(architecture, layer),

  contradicting: (_, architecture, layer) => contradictingTensors(architecture, layer),

  /** Two of experts; gate and up, activated and down, what both read, the norms of what they give, and the sum of both. */
  roundings: () => 2 + 8,
};
