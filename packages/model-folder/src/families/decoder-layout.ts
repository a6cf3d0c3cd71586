import type { DecoderArchitecture, DecoderNames, Experts } from '../architecture.js';
import { EXPERT_PARAMETERS } from '../expert-parameters.js';
import type { LinearMaker, MixerLinears } from '../layer-kinds/mixer-kind.js';
import { mixerLinears, mixerTensors } from '../layer-kinds/mixer-kinds.js';
import { mxfp4Tensors } from '../weight-formats/mxfp4.js';
import {
  type ExpertParameter,
  type LinearLayer,
  linearTensors,
  type ModelLayout,
  type RequiredTensor,
} from './family.js';

/** The linear layers of one decoder layer. Those with the same input are in the order in which they are stacked. */
export interface LayerLinears {
  mixer: MixerLinears;
  /** The MLP, or the shared expert of a sparse layer; null for a sparse layer without either. */
  mlp: { gateUp: LinearLayer[]; down: LinearLayer } | null;
  /** The gate of the shared expert; null without one, or without a gate. */
  sharedGate: LinearLayer | null;
  /** The router of experts beside an MLP; null without one. In other families no adapter acts at the router. */
  router: LinearLayer | null;
  /** The layers between the residual stream and the input of the layer; null without one. */
  layerInput: { gate: LinearLayer; output: LinearLayer } | null;
}

/** The width of the MLP of a layer that is not sparse. */
export function intermediateSizeOf({ intermediateSize, mlp }: DecoderArchitecture, layer: number): number {
  return layer >= (mlp.doubledFrom ?? Number.POSITIVE_INFINITY) ? 2 * intermediateSize : intermediateSize;
}

/** The experts of a sparse layer; null for a layer with one MLP. */
export function expertsOf({ experts }: DecoderArchitecture, layer: number): Experts | null {
  return experts?.layers[layer] ? experts : null;
}

/** Whether a layer has experts beside its MLP. */
export function isBesideExperts(architecture: DecoderArchitecture, layer: number): boolean {
  return expertsOf(architecture, layer) !== null && (architecture.names.experts?.beside ?? null) !== null;
}

/** The name of a tensor in the weight files; `path` is the module path with `.weight` or `.bias`. */
export function tensorName({ prefixes }: DecoderNames, path: string): string {
  const prefix = prefixes.find(({ modules }) => path.startsWith(modules));
  return prefix === undefined ? path : `${prefix.files}${path.slice(prefix.modules.length)}`;
}

function linearLayer(
  { names, transposedWeights }: DecoderArchitecture,
  name: string,
  { inFeatures, outFeatures, bias }: { inFeatures: number; outFeatures: number; bias: boolean },
): LinearLayer {
  return {
    name,
    inFeatures,
    outFeatures,
    weight: tensorName(names, `${name}.weight`),
    bias: bias ? tensorName(names, `${name}.bias`) : null,
    transposed: transposedWeights,
  };
}

/** The answers of {@link layerLinears} by layer: estimates ask for the same ones over and over. */
const MADE = new WeakMap<DecoderArchitecture, LayerLinears[]>();

/** The linear layers of the decoder layer with this index, of an architecture that no longer changes. */
export function layerLinears(architecture: DecoderArchitecture, index: number): LayerLinears {
  const made = MADE.get(architecture) ?? [];
  MADE.set(architecture, made);
  made[index] ??= linearsOf(architecture, index);
  return made[index];
}

function linearsOf(architecture: DecoderArchitecture, index: number): LayerLinears {
  const { names, hiddenSize, bias, mlp, layerInputs } = architecture;
  const linear: LinearMaker['linear'] = (path, inFeatures, outFeatures, hasBias) =>
    linearLayer(architecture, `${names.layers}.${index}.${path}`, { inFeatures, outFeatures, bias: hasBias });
  /** A fused layer has the rows of all its parts. */
  const stacked: LinearMaker['stacked'] = (paths, outFeatures, hasBias) => {
    if (paths.length === outFeatures.length) {
      return paths.map((path, i) => linear(path, hiddenSize, outFeatures[i]!, hasBias));
    }
    const all = outFeatures.reduce((sum, size) => sum + size, 0);
    return [linear(paths[0]!, hiddenSize, all, hasBias)];
  };
  const mlpOf = (paths: { gateUp: readonly string[]; down: string }, intermediateSize: number) => ({
    gateUp: stacked(paths.gateUp, mlp.gated ? [intermediateSize, intermediateSize] : [intermediateSize], bias.mlp),
    down: linear(paths.down, intermediateSize, hiddenSize, bias.mlp),
  });
  const ofMlp = () => {
    const experts = expertsOf(architecture, index);
    const without = { mlp: null, sharedGate: null, router: null };
    const ofLayer = () => mlpOf(names, intermediateSizeOf(architecture, index));
    if (experts === null) return { ...without, mlp: ofLayer() };
    if (isBesideExperts(architecture, index)) {
      return { ...without, mlp: ofLayer(), router: linear(names.experts!.router, hiddenSize, experts.count, false) };
    }
    if (experts.shared === null) return without;
    const paths = names.experts!.shared!;
    const { gate } = paths;
    return {
      ...without,
      mlp: mlpOf(paths, experts.shared.intermediateSize),
      sharedGate: gate === null ? null : linear(gate, hiddenSize, 1, false),
    };
  };
  return {
    mixer: mixerLinears(architecture, index, { linear, stacked }),
    ...ofMlp(),
    layerInput: layerInputs && {
      gate: linear(names.layerInputs!.gate, hiddenSize, layerInputs.size, false),
      output: linear(names.layerInputs!.output, layerInputs.size, hiddenSize, false),
    },
  };
}

/** The linear layers of one decoder layer by their inputs: those of a group are computed as one product. */
export function linearGroups(architecture: DecoderArchitecture, index: number): LinearLayer[][] {
  const { mixer, mlp, sharedGate, router, layerInput } = layerLinears(architecture, index);
  const ofMixer = [mixer.inputs, ...mixer.between.map((layer) => [layer]), [mixer.output]];
  const ofMlp = mlp === null ? [] : [mlp.gateUp, [mlp.down]];
  const ofGate = sharedGate === null ? [] : [[sharedGate]];
  const ofRouter = router === null ? [] : [[router]];
  const ofInput = layerInput === null ? [] : [[layerInput.gate], [layerInput.output]];
  return [...ofMixer, ...ofMlp, ...ofGate, ...ofRouter, ...ofInput];
}

const GATE_UP_OF_EACH = ['gate_proj', 'up_proj'] as const;
const DOWN_OF_EACH = ['down_proj'] as const;

/** The tensors of a sparse layer beside its linear layers. Those of a part lie one behind the other in memory. */
export interface ExpertTensors {
  /** `[experts, hidden]` */
  router: RequiredTensor;
  /** `[experts]`; null: the router has no correction */
  correction: RequiredTensor | null;
  /** null: there are none */
  biases: ExpertBiases | null;
  /** Weights of the router's norm `[hidden]` and factors of the experts' weights `[experts]`; null: experts are in the MLP's place. */
  scales: { router: RequiredTensor; experts: RequiredTensor } | null;
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
  const { count, intermediateSize, files, biases: hasBiases = false } = expertsOf(architecture, index)!;
  const within = (path: string, shape: number[]) => ({
    name: tensorName(names, `${names.layers}.${index}.${path}`),
    shape,
  });
  const router = within(`${names.experts!.router}.weight`, [count, hiddenSize]);
  const { correction: path, beside } = names.experts!;
  const correction = path === null ? null : within(path, [count]);
  const scales = beside && {
    router: within(beside.routerScale, [hiddenSize]),
    experts: within(beside.expertScales, [count]),
  };
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
      ...{ router, correction, biases, scales },
      gateUp: fusedTensors(gateUp, [count, 2 * intermediateSize, hiddenSize], files),
      down: fusedTensors(down, [count, hiddenSize, intermediateSize], files),
    };
  }
  const ofEach = (parts: readonly string[], shape: number[]): RequiredTensor[] =>
    Array.from({ length: count }, (_, expert) =>
      parts.map((part) => ({ name: expertTensor(architecture, index, expert, part), shape })),
    ).flat();
  return {
    ...{ router, correction, biases, scales },
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
  const { count: experts, intermediateSize, files } = expertsOf(architecture, index)!;
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
  const [gateUp, down] = fusedPaths(architecture.names);
  return [fusedTensor(architecture, index, gateUp), fusedTensor(architecture, index, down)];
}

function fusedTensor({ names }: DecoderArchitecture, layer: number, path: string): string {
  return tensorName(names, `${names.layers}.${layer}.${path}`);
}

function expertTensor({ names }: DecoderArchitecture, layer: number, expert: number, part: string): string {
  return tensorName(names, `${names.layers}.${layer}.${names.experts!.experts}.${expert}.${part}.weight`);
}

/** Tensors of further experts, or of the same ones in the other form: the files would not say which are meant. */
function contradictingTensors(architecture: DecoderArchitecture, layer: number): [name: string, what: string][] {
  const { count, files } = expertsOf(architecture, layer)!;
  const [fused] = fusedPaths(architecture.names);
  const parts = [...GATE_UP_OF_EACH, ...DOWN_OF_EACH];
  if (files !== 'each') {
    const what = `is of one expert, but others are fused in tensors such as ${fusedTensor(architecture, layer, fused)}: experts must be fused in all layers or in none`;
    const ofEach = parts.map((part): [string, string] => [expertTensor(architecture, layer, 0, part), what]);
    if (files !== 'mxfp4') return ofEach;
    const alsoPacked = 'is not quantized, but other experts are in MXFP4: they must be in all layers or in none';
    return [
      ...ofEach,
      ...fusedPaths(architecture.names).map((part): [string, string] => [
        fusedTensor(architecture, layer, part),
        alsoPacked,
      ]),
    ];
  }
  const what = `is of a further expert: by config.json a layer has ${count}, from 0`;
  return parts.map((part) => [expertTensor(architecture, layer, count, part), what]);
}

/** The projection of an embedded token to the inputs of all layers; null where they have none. */
export function layerInputProjection(architecture: DecoderArchitecture): LinearLayer | null {
  const { names, layerInputs, hiddenSize, layerCount } = architecture;
  if (layerInputs === null) return null;
  const outFeatures = layerCount * layerInputs.size;
  return linearLayer(architecture, names.layerInputs!.projection, { inFeatures: hiddenSize, outFeatures, bias: false });
}

/** The tensors and linear layers of a decoder. */
export function decoderLayout(architecture: DecoderArchitecture): ModelLayout {
  const { names, vocabSize, hiddenSize, layerCount, maxPositions, norm, tiedHead, layerInputs } = architecture;
  const tensors: RequiredTensor[] = [];
  const linears: LinearLayer[] = [];
  const parameters: ExpertParameter[] = [];
  const contradicting = new Map<string, string>();
  const add = (path: string, shape: number[]) => tensors.push({ name: tensorName(names, path), shape });
  const addNorm = (path: string | null, size: number) => {
    if (path === null) return;
    add(`${path}.weight`, [size]);
    if (norm.kind === 'layer') add(`${path}.bias`, [size]);
  };
  add(`${names.embedding}.weight`, [vocabSize, hiddenSize]);
  if (names.positions !== null) add(`${names.positions}.weight`, [maxPositions, hiddenSize]);
  const projection = layerInputProjection(architecture);
  if (layerInputs !== null && projection !== null) {
    const paths = names.layerInputs!;
    add(`${paths.embedding}.weight`, [layerInputs.vocabSize, layerCount * layerInputs.size]);
    tensors.push(...linearTensors(projection));
    linears.push(projection);
    addNorm(paths.norm, layerInputs.size);
  }
  for (let index = 0; index < layerCount; index++) {
    const within = (path: string | null) => path && `${names.layers}.${index}.${path}`;
    addNorm(within(names.attentionNorm), hiddenSize);
    addNorm(within(names.attentionBranchNorm), hiddenSize);
    addNorm(within(names.mlpNorm), hiddenSize);
    addNorm(within(names.mlpBranchNorm), hiddenSize);
    for (const { path, shape, isNorm } of mixerTensors(architecture, index)) {
      if (isNorm) addNorm(within(path), shape[0]!);
      else add(within(path)!, shape);
    }
    if (layerInputs !== null) addNorm(within(names.layerInputs!.branchNorm), hiddenSize);
    if (names.layerScale !== null) add(within(names.layerScale)!, [1]);
    if (expertsOf(architecture, index) !== null) {
      const { router, correction, biases, scales, gateUp, down } = expertTensors(architecture, index);
      const { beside } = names.experts!;
      for (const norm of [beside?.norm, beside?.branchNorm, beside?.mlpBranchNorm])
        addNorm(within(norm ?? null), hiddenSize);
      // A router that adapters may act at is among the linear layers.
      if (beside === null) tensors.push(router);
      tensors.push(
        ...(correction === null ? [] : [correction]),
        ...Object.values(biases ?? {}),
        ...Object.values(scales ?? {}),
      );
      tensors.push(...gateUp, ...down);
      parameters.push(...expertParameters(architecture, index));
      for (const [name, what] of contradictingTensors(architecture, index)) contradicting.set(name, what);
    }
    const own = linearGroups(architecture, index).flat();
    tensors.push(...own.flatMap(linearTensors));
    linears.push(...own);
  }
  addNorm(names.finalNorm, hiddenSize);
  const head: LinearLayer = {
    name: names.head,
    inFeatures: hiddenSize,
    outFeatures: vocabSize,
    weight: tensorName(names, `${tiedHead ? names.embedding : names.head}.weight`),
    bias: null,
    transposed: false,
  };
  if (!tiedHead) tensors.push(...linearTensors(head));
  return { tensors, linears, parameters, head, contradicting };
}
