import type { DecoderArchitecture, Experts, Mlp, ParallelMlp, SparseMlp } from '../architecture.js';
import { type DecoderNames, tensorOfLayer } from '../decoder-names.js';
import type { ExpertParameter, RequiredTensor } from '../families/family.js';
import { EXPERT_PARAMETERS } from '../module-pattern.js';
import { mxfp4Tensors } from '../weight-formats/mxfp4.js';
import { gateUpDown } from './dense.js';
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
export function contradictingTensors(architecture: DecoderArchitecture, layer: number): [name: string, what: string][] {
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
