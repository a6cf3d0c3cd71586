import type { DecoderArchitecture, DenseMlp } from '../architecture.js';
import type { LinearMaker } from './mixer-kind.js';
import type { MlpKind, MlpLinears } from './mlp-kind.js';

/** The width of a layer's MLP; that of the architecture where it has none of its own. */
export function intermediateSizeOf(
  { layers, intermediateSize }: Pick<DecoderArchitecture, 'layers' | 'intermediateSize'>,
  layer: number,
): number {
  const { mlp } = layers[layer]!;
  return ('intermediateSize' in mlp ? mlp.intermediateSize : undefined) ?? intermediateSize;
}

/** The linear layers of one MLP. @param paths relative to the layer */
export function gateUpDown(
  { hiddenSize, bias, mlp }: DecoderArchitecture,
  paths: { gateUp: readonly string[]; down: string },
  intermediateSize: number,
  { linear, stacked }: LinearMaker,
): NonNullable<MlpLinears['mlp']> {
  return {
    gateUp: stacked(paths.gateUp, mlp.gated ? [intermediateSize, intermediateSize] : [intermediateSize], bias.mlp),
    down: linear(paths.down, intermediateSize, hiddenSize, bias.mlp),
  };
}

export const denseKind: MlpKind<DenseMlp> = {
  linears: (own, architecture, make) => ({
    mlp: gateUpDown(architecture, architecture.names, own.intermediateSize ?? architecture.intermediateSize, make),
    sharedGate: null,
    router: null,
  }),

  norms: () => [],

  tensors: () => [],

  parameters: () => [],

  contradicting: () => [],

  roundings: () => 0,
};
