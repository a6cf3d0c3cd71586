import type { DecoderArchitecture, Mlp } from '../architecture.js';
import type { ExpertParameter, RequiredTensor } from '../families/family.js';
import { denseKind } from './dense.js';
import type { LinearMaker } from './mixer-kind.js';
import type { MlpKind, MlpLinears } from './mlp-kind.js';
import { parallelKind } from './parallel.js';
import { sparseKind } from './sparse.js';

/** The MLPs of one kind. */
export type MlpOf<Kind extends Mlp['kind']> = Extract<Mlp, { kind: Kind }>;

/** The kinds of MLPs. To add one, describe it in architecture.ts and add a file to this folder and a line here. */
const KINDS: { readonly [Kind in Mlp['kind']]: MlpKind<MlpOf<Kind>> } = {
  dense: denseKind,
  sparse: sparseKind,
  parallel: parallelKind,
};

function mlpIn({ layers }: Pick<DecoderArchitecture, 'layers'>, layer: number): { own: Mlp; kind: MlpKind<Mlp> } {
  const own = layers[layer]!.mlp;
  return { own, kind: KINDS[own.kind] as MlpKind<Mlp> };
}

/** The linear layers of a layer's MLP. */
export function mlpLinears(architecture: DecoderArchitecture, layer: number, make: LinearMaker): MlpLinears {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.linears(own, architecture, make);
}

/** The module paths of norms within a layer's MLP, relative to the layer. */
export function mlpNorms(architecture: DecoderArchitecture, layer: number): string[] {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.norms(own, architecture);
}

/** The tensors of a layer's MLP besides its linear layers and norms. */
export function mlpTensors(architecture: DecoderArchitecture, layer: number): RequiredTensor[] {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.tensors(own, architecture, layer);
}

/** The parameters of a layer that are of all its experts together. */
export function mlpParameters(architecture: DecoderArchitecture, layer: number): ExpertParameter[] {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.parameters(own, architecture, layer);
}

/** Tensors that files must not have because of a layer's MLP, and what each would be. */
export function contradictingMlp(architecture: DecoderArchitecture, layer: number): [name: string, what: string][] {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.contradicting(own, architecture, layer);
}

/** Tensors that are rounded on the way through an MLP, beyond those of one that is dense: of all layers the most. */
export function mlpRoundings(architecture: DecoderArchitecture): number {
  const ofLayers = architecture.layers.map((_, layer) => {
    const { own, kind } = mlpIn(architecture, layer);
    return kind.roundings(own, architecture);
  });
  return Math.max(...ofLayers);
}
