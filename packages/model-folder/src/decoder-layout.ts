import type { DecoderArchitecture } from './architecture.js';
import { tensorName } from './decoder-names.js';
import {
  type ExpertParameter,
  type LinearLayer,
  linearTensors,
  type ModelLayout,
  type RequiredTensor,
} from './families/family.js';
import type { LinearMaker, MixerLinears } from './layer-kinds/mixer-kind.js';
import { mixerLinears, mixerTensors } from './layer-kinds/mixer-kinds.js';
import type { MlpLinears } from './layer-kinds/mlp-kind.js';
import { contradictingMlp, mlpLinears, mlpNorms, mlpParameters, mlpTensors } from './layer-kinds/mlp-kinds.js';

/** The linear layers of one decoder layer. Those with the same input are in the order in which they are stacked. */
export interface LayerLinears extends MlpLinears {
  mixer: MixerLinears;
  /** The layers between the residual stream and the input of the layer; null without one. */
  layerInput: { gate: LinearLayer; output: LinearLayer } | null;
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
  const { names, hiddenSize, layerInputs } = architecture;
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
  return {
    mixer: mixerLinears(architecture, index, { linear, stacked }),
    ...mlpLinears(architecture, index, { linear, stacked }),
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
    for (const path of mlpNorms(architecture, index)) addNorm(within(path), hiddenSize);
    tensors.push(...mlpTensors(architecture, index));
    parameters.push(...mlpParameters(architecture, index));
    for (const [name, what] of contradictingMlp(architecture, index)) contradicting.set(name, what);
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
