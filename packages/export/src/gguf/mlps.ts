import type { DecoderArchitecture, Mlp, MlpOf } from '@lorasmith/model-folder';
import { expertBiases, parallelParts, type StackedExperts, sparseParts, stackedExperts } from './experts.js';
import { ggufFamily } from './families/gguf-families.js';
import type { LayerPart, LayerTensor } from './layer-part.js';

/** A kind of MLP as llama.cpp has it. */
interface GgufMlp<Own extends Mlp> {
  /** Its parts by their names in GGUF. */
  parts(own: Own, architecture: DecoderArchitecture): LayerPart[];
  /** The matrices of all its experts. @param fusesGateUp - True if gate and up are one tensor */
  experts(own: Own, architecture: DecoderArchitecture, layer: number, fusesGateUp: boolean): StackedExperts[];
  /** The biases of its experts. */
  biases(own: Own, architecture: DecoderArchitecture, layer: number): LayerTensor[];
}

/** The kinds of MLPs. To add one, add a file to this folder and a line here. */
const MLPS: { readonly [Kind in Mlp['kind']]: GgufMlp<MlpOf<Kind>> } = {
  dense: { parts: (_, architecture) => denseParts(architecture), experts: () => [], biases: () => [] },
  sparse: { parts: sparseParts, experts: stackedExperts, biases: expertBiases },
  parallel: {
    parts: (own, architecture) => [...denseParts(architecture), ...parallelParts(own, architecture)],
    // llama.cpp multiplies by the scales of experts before it adds what an adapter gives.
    experts: (...of) => stackedExperts(...of).map((one) => ({ ...one, withoutAdapter: one.name === 'ffn_down_exps' })),
    biases: expertBiases,
  },
};

function mlpIn({ layers }: DecoderArchitecture, layer: number): { own: Mlp; kind: GgufMlp<Mlp> } {
  const own = layers[layer]!.mlp;
  return { own, kind: MLPS[own.kind] as GgufMlp<Mlp> };
}

/** The parts of a layer's MLP by their names in GGUF. */
export function mlpParts(architecture: DecoderArchitecture, layer: number): LayerPart[] {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.parts(own, architecture);
}

/** The matrices of all experts of a layer. @param fusesGateUp - True if gate and up are one tensor */
export function mlpExperts(architecture: DecoderArchitecture, layer: number, fusesGateUp: boolean): StackedExperts[] {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.experts(own, architecture, layer, fusesGateUp);
}

/** The biases of the experts of a layer. */
export function mlpBiases(architecture: DecoderArchitecture, layer: number): LayerTensor[] {
  const { own, kind } = mlpIn(architecture, layer);
  return kind.biases(own, architecture, layer);
}

/** Gate, up and down of one MLP. */
export function denseParts(architecture: DecoderArchitecture): LayerPart[] {
  return [...gateUpParts(architecture), { path: architecture.names.down, name: 'ffn_down' }];
}

function gateUpParts({ family, names, mlp, intermediateSize }: DecoderArchitecture): LayerPart[] {
  const [first, second] = names.gateUp;
  const parts = ['ffn_gate', 'ffn_up'] as const;
  if (ggufFamily(family)?.splitsGateUp) {
    // The rows of the gate, and behind them those of up.
    return parts.map((name, half) => {
      return { path: first!, name, rowOrder: [{ first: half * intermediateSize, count: intermediateSize }] };
    });
  }
  const up = { path: mlp.gated && second !== undefined ? second : first!, name: parts[1] };
  return mlp.gated && second !== undefined ? [{ path: first!, name: parts[0] }, up] : [up];
}
