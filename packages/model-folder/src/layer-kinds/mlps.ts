import type { DecoderArchitecture, DenseMlp, Experts, Mlp, ParallelMlp, SparseMlp } from '../architecture.js';
import { type DecoderNames, type ParallelMlpNames, tensorOfLayer } from '../decoder-names.js';
import type { ExpertParameter, LinearLayer, RequiredTensor } from '../families/family.js';
import { EXPERT_PARAMETERS } from '../module-pattern.js';
import { mxfp4Tensors } from '../weight-formats/mxfp4.js';
import type { LinearMaker } from './mixers.js';

/** The linear layers of an MLP of whatever kind. */
export interface MlpLinears {
  /** The MLP that all tokens pass, or their shared expert; null where there is neither. */
  mlp: { gateUp: LinearLayer[]; down: LinearLayer } | null;
  /** The gate of the shared expert; null without one, or without a gate. */
  sharedGate: LinearLayer | null;
  /** The router of experts in parallel with an MLP; null without one. No adapter acts at other routers. */
  router: LinearLayer | null;
}

/** A kind of MLP, as layouts need it. `own` is the MLP of the layer that they ask about. */
interface MlpKind<Own extends Mlp> {
  linears(own: Own, architecture: DecoderArchitecture, make: LinearMaker): MlpLinears;
  /** The module paths of norms within it, of the size of the hidden state, relative to the layer. */
  norms(own: Own, architecture: DecoderArchitecture): string[];
  /** The tensors besides those of linear layers and norms. */
  tensors(own: Own, architecture: DecoderArchitecture, layer: number): RequiredTensor[];
  /** The parameters that are of all experts together. */
  parameters(own: Own, architecture: DecoderArchitecture, layer: number): ExpertParameter[];
  /** Tensors that files must not have, and what each would be. */
  contradicting(own: Own, architecture: DecoderArchitecture, layer: number): [name: string, what: string][];
  /** Tensors that are rounded to the computing type on the way, beyond those of one MLP. */
  roundings(own: Own, architecture: DecoderArchitecture): number;
}

/** The width of a layer's MLP; that of the architecture where it has none of its own. */
export function intermediateSizeOf(
  { layers, intermediateSize }: Pick<DecoderArchitecture, 'layers' | 'intermediateSize'>,
  layer: number,
): number {
  const { mlp } = layers[layer]!;
  return ('intermediateSize' in mlp ? mlp.intermediateSize : undefined) ?? intermediateSize;
}

/** The linear layers of one MLP. @param paths relative to the layer */
function gateUpDown(
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

const denseKind: MlpKind<DenseMlp> = {
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

const sparseKind: MlpKind<SparseMlp> = {
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

/** True of an MLP with experts. */
export function hasExperts(mlp: Mlp): mlp is SparseMlp | ParallelMlp {
  return 'experts' in mlp;
}

/** The experts of a layer that is known to have some. */
export function expertsOf({ layers }: Pick<DecoderArchitecture, 'layers'>, layer: number): Experts {
  const { mlp } = layers[layer]!;
  if (!hasExperts(mlp)) throw new Error(`the MLP of layer ${layer} is ${mlp.kind}: it has no experts`);
  return mlp.experts;
}

const GATE_UP_OF_EACH = ['gate_proj', 'up_proj'] as const;
const DOWN_OF_EACH = ['down_proj'] as const;

/** The tensors of a layer with experts besides its linear layers. The tensors of a part are contiguous in memory. */
interface ExpertTensors {
  /** `[experts, hidden]` */
  router: RequiredTensor;
  /** `[experts]`; null: the router has no correction */
  correction: RequiredTensor | null;
  /** null: there are none */
  biases: ExpertBiases | null;
  /** Together `[experts, 2 × intermediate, hidden]`, each expert's gate, then its up; or as {@link Experts.files} says. */
  gateUp: RequiredTensor[];
  /** Together `[experts, hidden, intermediate]`, or as {@link Experts.files} says. */
  down: RequiredTensor[];
}

/** The biases of a sparse layer. */
interface ExpertBiases {
  /** `[experts]` */
  router: RequiredTensor;
  /** `[experts, 2 × intermediate]` */
  gateUp: RequiredTensor;
  /** `[experts, hidden]` */
  down: RequiredTensor;
}

/** The tensors of the sparse layer with this index. */
export function expertTensors(architecture: DecoderArchitecture, index: number): ExpertTensors {
  const { names, hiddenSize } = architecture;
  const { count, intermediateSize, files, biases: hasBiases = false } = expertsOf(architecture, index);
  const within = (path: string, shape: number[]) => ({ name: tensorOfLayer(names, index, path), shape });
  const router = within(`${names.experts!.router}.weight`, [count, hiddenSize]);
  const { correction: path } = names.experts!;
  const correction = path === null ? null : within(path, [count]);
  const [gateUp, down] = fusedTensorNames(architecture, index);
  const biases = hasBiases
    ? {
        router: within(`${names.experts!.router}.bias`, [count]),
        gateUp: { name: `${gateUp}_bias`, shape: [count, 2 * intermediateSize] },
        down: { name: `${down}_bias`, shape: [count, hiddenSize] },
      }
    : null;
  if (files !== 'each') {
    return {
      ...{ router, correction, biases },
      gateUp: fusedTensors(gateUp, [count, 2 * intermediateSize, hiddenSize], files),
      down: fusedTensors(down, [count, hiddenSize, intermediateSize], files),
    };
  }
  const ofEach = (parts: readonly string[], shape: number[]): RequiredTensor[] =>
    Array.from({ length: count }, (_, expert) =>
      parts.map((part) => ({ name: expertTensor(architecture, index, expert, part), shape })),
    ).flat();
  return {
    ...{ router, correction, biases },
    gateUp: ofEach(GATE_UP_OF_EACH, [intermediateSize, hiddenSize]),
    down: ofEach(DOWN_OF_EACH, [hiddenSize, intermediateSize]),
  };
}

/** The tensors of a parameter `[experts, out, in]` in files where experts are fused. */
function fusedTensors(
  name: string,
  [count, outFeatures, inFeatures]: [number, number, number],
  files: 'fused' | 'transposed' | 'mxfp4',
): RequiredTensor[] {
  if (files === 'fused') return [{ name, shape: [count, outFeatures, inFeatures] }];
  if (files === 'transposed') return [{ name, shape: [count, inFeatures, outFeatures] }];
  return mxfp4Tensors(name, [count, outFeatures, inFeatures]);
}

/** The tensors of fused experts, relative to a layer: gate and up, and down. */
export function fusedPaths({ experts }: DecoderNames): readonly [gateUp: string, down: string] {
  const [gateUp, down] = EXPERT_PARAMETERS;
  return experts!.fused ?? [`${experts!.experts}.${gateUp}`, `${experts!.experts}.${down}`];
}

/** The parameters of the sparse layer with this index: gate and up of all experts, and down. */
export function expertParameters(
  architecture: DecoderArchitecture,
  index: number,
): [gateUp: ExpertParameter, down: ExpertParameter] {
  const { names, hiddenSize } = architecture;
  const { count: experts, intermediateSize, files } = expertsOf(architecture, index);
  const transposed = files === 'transposed' || files === 'mxfp4';
  const { gateUp, down } = expertTensors(architecture, index);
  const [gateUpName, downName] = EXPERT_PARAMETERS.map(
    (part) => `${names.layers}.${index}.${names.experts!.experts}.${part}`,
  ) as [string, string];
  return [
    {
      ...{ name: gateUpName, experts, tensors: gateUp, transposed },
      ...{ inFeatures: hiddenSize, outFeatures: 2 * intermediateSize, projections: transposed ? 1 : 2 },
    },
    {
      ...{ name: downName, experts, tensors: down, transposed },
      ...{ inFeatures: intermediateSize, outFeatures: hiddenSize },
    },
  ];
}

/** The tensors of fused experts of the layer with this index; those in MXFP4 have such names when they are decoded. */
export function fusedTensorNames(architecture: DecoderArchitecture, index: number): [gateUp: string, down: string] {
  const { names } = architecture;
  const [gateUp, down] = fusedPaths(names);
  return [tensorOfLayer(names, index, gateUp), tensorOfLayer(names, index, down)];
}

function expertTensor({ names }: DecoderArchitecture, layer: number, expert: number, part: string): string {
  return tensorOfLayer(names, layer, `${names.experts!.experts}.${expert}.${part}.weight`);
}

/** Tensors of further experts, or of the same ones in the other form: the files would not say which are meant. */
function contradictingTensors(architecture: DecoderArchitecture, layer: number): [name: string, what: string][] {
  const { count, files } = expertsOf(architecture, layer);
  const [fused] = fusedTensorNames(architecture, layer);
  const parts = [...GATE_UP_OF_EACH, ...DOWN_OF_EACH];
  if (files !== 'each') {
    const what = `is of one expert, but others are fused in tensors such as ${fused}: experts must be fused in all layers or in none`;
    const ofEach = parts.map((part): [string, string] => [expertTensor(architecture, layer, 0, part), what]);
    if (files !== 'mxfp4') return ofEach;
    const alsoPacked = 'is not quantized, but other experts are in MXFP4: they must be in all layers or in none';
    return [...ofEach, ...fusedTensorNames(architecture, layer).map((name): [string, string] => [name, alsoPacked])];
  }
  const what = `is of a further expert: by config.json a layer has ${count}, from 0`;
  return parts.map((part) => [expertTensor(architecture, layer, count, part), what]);
}

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

const parallelKind: MlpKind<ParallelMlp> = {
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

/** The MLPs of one kind. */
export type MlpOf<Kind extends Mlp['kind']> = Extract<Mlp, { kind: Kind }>;

/** The kinds of MLPs. To add one, describe it in architecture.ts and above, and add a line here. */
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
