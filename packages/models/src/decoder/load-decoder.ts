import {
  type DecoderArchitecture,
  type ExpertParameter,
  expertParameters,
  expertsOf,
  expertTensors,
  isBesideExperts,
  layerInputProjection,
  layerLinears,
  type ModelFolder,
  tensorName,
} from '@lorasmith/model-folder';
import { constant, dispose, type FloatDType, type KernelSet, multiply, scope } from '@lorasmith/tensor';
import { type ExpertGroups, expertGroups } from '../frozen-experts.js';
import { built, type Listed, made } from '../loading/listed.js';
import { type LoadOptions, loadListed } from '../loading/load-listed.js';
import { WeightList } from '../loading/weight-list.js';
import { Block, type Sublayer } from './block.js';
import { Decoder } from './decoder.js';
import { DecoderLayer } from './decoder-layer.js';
import { FeedForward } from './feed-forward.js';
import { LayerInputBranch } from './layer-input-branch.js';
import { LayerInputs } from './layer-inputs.js';
import { listNorm, listNormIfAny, unitNorm } from './list-norm.js';
import { listMixer } from './mixers.js';
import { MlpBesideExperts } from './mlp-beside-experts.js';
import { FrozenRouter, type Router, ScaledRouter } from './router.js';
import { SharedExpert } from './shared-expert.js';
import { SparseMlp } from './sparse-mlp.js';

/** Reads a decoder's weights; linear layers with the same input are stacked. */
export async function loadDecoder(
  folder: ModelFolder,
  dtype: FloatDType,
  kernels: KernelSet,
  options: LoadOptions = {},
): Promise<Decoder> {
  const { architecture } = folder;
  if (architecture.kind !== 'decoder') throw new Error(`model ${folder.name} is a ${architecture.kind}, not a decoder`);
  const { names, tiedHead, layerCount } = architecture;
  const list = new WeightList(folder, dtype, kernels);
  const weightOf = (path: string, as?: FloatDType) => list.tensor(tensorName(names, `${path}.weight`), as);
  const parts = {
    embedding: weightOf(names.embedding),
    positions: names.positions === null ? null : weightOf(names.positions, 'float32'),
    layerInputs: listLayerInputs(list, architecture),
    layers: Array.from({ length: layerCount }, (_, index) => listLayer(list, architecture, index)),
    finalNorm: listNorm(list, architecture, names.finalNorm),
    ownHead: tiedHead ? null : weightOf(names.head),
  };
  const decoder = built(parts, ({ ownHead, ...others }) => {
    const weights = { ...others, head: ownHead ?? others.embedding };
    return new Decoder(architecture, dtype, kernels, weights, { logitsInChunk: options.logitsInChunk });
  });
  return await loadListed(folder, decoder, options);
}

function listLayer(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<DecoderLayer> {
  const { names, branchScale, hiddenSize } = architecture;
  const normIfAny = (path: string | null) => listNormIfAny(list, architecture, index, path);
  const parts = {
    attentionNorm: normIfAny(names.attentionNorm),
    mixer: listMixer(list, architecture, index),
    attentionBranchNorm: normIfAny(names.attentionBranchNorm),
    mlpNorm: isBesideExperts(architecture, index) ? unitNorm(list, architecture, hiddenSize) : normIfAny(names.mlpNorm),
    mlp: listMlp(list, architecture, index),
    mlpBranchNorm: normIfAny(names.mlpBranchNorm),
    inputBlock: listInputBlock(list, architecture, index),
    scale:
      names.layerScale === null ? null : list.factor(tensorName(names, `${names.layers}.${index}.${names.layerScale}`)),
  };
  return built(parts, ({ inputBlock, scale, ...of }) => {
    const blocks = [
      new Block({ norm: of.attentionNorm, sublayer: of.mixer, branchNorm: of.attentionBranchNorm, branchScale }),
      new Block({ norm: of.mlpNorm, sublayer: of.mlp, branchNorm: of.mlpBranchNorm, branchScale }),
    ];
    return new DecoderLayer(inputBlock === null ? blocks : [...blocks, inputBlock], scale ?? 1);
  });
}

function listMlp(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<Sublayer> {
  if (expertsOf(architecture, index) === null) return listFeedForward(list, architecture, index);
  if (!isBesideExperts(architecture, index)) return listSparseMlp(list, architecture, index);
  const { names } = architecture;
  const beside = names.experts!.beside!;
  const normOf = (path: string) => listNorm(list, architecture, `${names.layers}.${index}.${path}`);
  const parts = {
    norm: normOf(names.mlpNorm!),
    mlp: listFeedForward(list, architecture, index),
    mlpBranchNorm: normOf(beside.mlpBranchNorm),
    experts: listSparseMlp(list, architecture, index),
    branchNorm: normOf(beside.branchNorm),
  };
  return built(parts, ({ norm, mlp, mlpBranchNorm, experts, branchNorm }) => {
    const besides = { sublayer: experts, branchNorm };
    return new MlpBesideExperts(norm.weight, { sublayer: mlp, branchNorm: mlpBranchNorm }, besides);
  });
}

/** The MLP of a layer, or the shared expert's. */
function listFeedForward(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<FeedForward> {
  const { gateUp, down } = layerLinears(architecture, index).mlp!;
  const parts = { gateUp: list.linearGroup(gateUp), down: list.linearGroup([down]) };
  return built(parts, (groups) => new FeedForward(architecture.mlp, groups));
}

function listSparseMlp(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<SparseMlp> {
  const experts = expertsOf(architecture, index)!;
  const { biases, correction, scales, ...tensors } = expertTensors(architecture, index);
  const [ofGateUp, ofDown] = expertParameters(architecture, index);
  const beside = architecture.names.experts!.beside;
  const parts = {
    router: listRouter(list, architecture, index, { ...tensors, biases, scales }),
    gateUpBias: biases && list.tensor(biases.gateUp.name),
    downBias: biases && list.tensor(biases.down.name, 'float32'),
    correction: correction && list.ofExperts(correction.name),
    expertScales: scales && list.ofExperts(scales.experts.name),
    inputNorm: beside && listNorm(list, architecture, `${architecture.names.layers}.${index}.${beside.norm}`),
    gateUp: listExperts(list, ofGateUp),
    down: listExperts(list, ofDown),
    shared: experts.shared === null ? null : listSharedExpert(list, architecture, index),
  };
  return built(parts, ({ gateUpBias, downBias, inputNorm, ...weights }) => {
    const ofExperts = gateUpBias && downBias && { gateUp: gateUpBias, down: downBias };
    const inputScale = inputNorm?.weight ?? null;
    return new SparseMlp(experts, architecture.mlp, { ...weights, biases: ofExperts, inputScale });
  });
}

function listRouter(
  list: WeightList,
  architecture: DecoderArchitecture,
  index: number,
  { router, biases, scales }: Pick<ReturnType<typeof expertTensors>, 'router' | 'biases' | 'scales'>,
): Listed<Router> {
  const layer = layerLinears(architecture, index).router;
  if (layer === null || scales === null) {
    const parts = { weight: list.router(router.name), bias: biases && list.router(biases.router.name) };
    return built(parts, ({ weight, bias }) => new FrozenRouter(list.kernels, weight, bias));
  }
  const normed = made({ scale: list.tensor(scales.router.name, 'float32') }, ({ scale }, give) => {
    const product = give(scope(() => multiply(scale, constant(architecture.hiddenSize ** -0.5))));
    dispose(scale);
    return product;
  });
  const parts = { scale: normed, group: list.routerGroup(layer) };
  return built(parts, ({ scale, group }) => new ScaledRouter(scale, group));
}

function listExperts(list: WeightList, parameter: ExpertParameter): Listed<ExpertGroups> {
  return built({ experts: list.experts(parameter) }, ({ experts }) => expertGroups(parameter.name, experts));
}

function listSharedExpert(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<SharedExpert> {
  const { sharedGate } = layerLinears(architecture, index);
  const parts = {
    mlp: listFeedForward(list, architecture, index),
    gate: sharedGate && list.linearGroup([sharedGate]),
  };
  return built(parts, ({ mlp, gate }) => new SharedExpert(mlp, gate));
}

function listLayerInputs(list: WeightList, architecture: DecoderArchitecture): Listed<LayerInputs> | null {
  const projection = layerInputProjection(architecture);
  if (projection === null) return null;
  const { names, layerCount } = architecture;
  const paths = names.layerInputs!;
  const parts = {
    embedding: list.tensor(tensorName(names, `${paths.embedding}.weight`)),
    projection: list.linearGroup([projection]),
    norm: listNorm(list, architecture, paths.norm),
  };
  return built(parts, (weights) => new LayerInputs(weights, layerCount));
}

/** The block that adds what a layer's input makes; null where layers have none. */
function listInputBlock(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<Block> | null {
  const { layerInput } = layerLinears(architecture, index);
  if (layerInput === null) return null;
  const { names, mlp } = architecture;
  const parts = {
    gate: list.linearGroup([layerInput.gate]),
    output: list.linearGroup([layerInput.output]),
    branchNorm: listNormIfAny(list, architecture, index, names.layerInputs!.branchNorm),
  };
  return built(parts, ({ branchNorm, ...groups }) => {
    return new Block({ norm: null, sublayer: new LayerInputBranch(index, mlp.activation, groups), branchNorm });
  });
}
