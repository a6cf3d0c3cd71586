import {
  type DecoderArchitecture,
  type ExpertParameter,
  expertParameters,
  expertsOf,
  expertTensors,
  layerLinears,
  type Mlp,
  parallelMlpNames,
  parallelMlpScales,
} from '@lorasmith/model-folder';
import { constant, dispose, multiply, scope } from '@lorasmith/tensor';
import { type ExpertGroups, expertGroups } from '../frozen-experts.js';
import { built, type Listed, made } from '../loading/listed.js';
import type { WeightList } from '../loading/weight-list.js';
import type { Sublayer } from './block.js';
import { FeedForward, SharedExpert } from './feed-forward.js';
import { MlpWithExperts } from './mlp-with-experts.js';
import { listNormIfAny, listNormOfLayer, type Norm, unitNorm } from './norm.js';
import { FrozenRouter, type Router, ScaledRouter } from './router.js';
import { SparseMlp } from './sparse-mlp.js';

type ListOfLayer<Part> = (list: WeightList, architecture: DecoderArchitecture, layer: number) => Part;

/** A kind of MLP: the norm of what it reads, null where there is none, and its weights. */
interface ListMlp {
  norm: ListOfLayer<Listed<Norm> | null>;
  sublayer: ListOfLayer<Listed<Sublayer>>;
}

const usualNorm: ListMlp['norm'] = (list, architecture, layer) =>
  listNormIfAny(list, architecture, layer, architecture.names.mlpNorm);

/** The kinds of MLPs. To add one, add its sublayer to this folder and a line here. */
const MLPS: Readonly<Record<Mlp['kind'], ListMlp>> = {
  dense: { norm: usualNorm, sublayer: listFeedForward },
  sparse: { norm: usualNorm, sublayer: listSparseMlp },
  // MLP and experts each have weights of their own for what they read.
  parallel: {
    norm: (list, architecture) => unitNorm(list, architecture, architecture.hiddenSize),
    sublayer: listMlpWithExperts,
  },
};

/** The norm of what a layer's MLP reads; null where there is none. */
export const listMlpNorm: ListMlp['norm'] = (list, architecture, layer) =>
  MLPS[architecture.layers[layer]!.mlp.kind].norm(list, architecture, layer);

/** The MLP of a layer. */
export const listMlp: ListMlp['sublayer'] = (list, architecture, layer) =>
  MLPS[architecture.layers[layer]!.mlp.kind].sublayer(list, architecture, layer);

/** The MLP of a layer, or the shared expert's. */
function listFeedForward(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<FeedForward> {
  const { gateUp, down } = layerLinears(architecture, index).mlp!;
  const parts = { gateUp: list.linearGroup(gateUp), down: list.linearGroup([down]) };
  return built(parts, (groups) => new FeedForward(architecture.mlp, groups));
}

function listSparseMlp(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<SparseMlp> {
  const { router, biases } = expertTensors(architecture, index);
  const parts = { weight: list.router(router.name), bias: biases && list.router(biases.router.name) };
  return listExpertsWith(list, architecture, index, {
    router: built(parts, ({ weight, bias }) => new FrozenRouter(list.kernels, weight, bias)),
    expertScales: null,
    inputNorm: null,
  });
}

function listMlpWithExperts(
  list: WeightList,
  architecture: DecoderArchitecture,
  index: number,
): Listed<MlpWithExperts> {
  const { names } = architecture;
  const parallel = parallelMlpNames(architecture);
  const normOf = (path: string) => listNormOfLayer(list, architecture, index, path);
  const parts = {
    norm: normOf(names.mlpNorm!),
    mlp: listFeedForward(list, architecture, index),
    mlpBranchNorm: normOf(parallel.mlpBranchNorm),
    experts: listExpertsWith(list, architecture, index, {
      router: listScaledRouter(list, architecture, index),
      expertScales: list.ofExperts(parallelMlpScales(architecture, index).experts.name),
      inputNorm: normOf(parallel.norm),
    }),
    branchNorm: normOf(parallel.branchNorm),
  };
  return built(parts, ({ norm, mlp, mlpBranchNorm, experts, branchNorm }) => {
    const parallelExperts = { sublayer: experts, branchNorm };
    return new MlpWithExperts(norm.weight, { sublayer: mlp, branchNorm: mlpBranchNorm }, parallelExperts);
  });
}

/** The parts that differ between experts in place of an MLP and in parallel with one. */
interface ExpertsWith {
  router: Listed<Router>;
  /** `[experts]`: the factors of their weights; null: they have none */
  expertScales: Listed<Float32Array> | null;
  /** The norm with the weights of what they read; null: they read what the router does */
  inputNorm: Listed<Norm> | null;
}

function listExpertsWith(
  list: WeightList,
  architecture: DecoderArchitecture,
  index: number,
  own: ExpertsWith,
): Listed<SparseMlp> {
  const experts = expertsOf(architecture, index);
  const { biases, correction } = expertTensors(architecture, index);
  const [ofGateUp, ofDown] = expertParameters(architecture, index);
  const parts = {
    ...own,
    gateUpBias: biases && list.tensor(biases.gateUp.name),
    downBias: biases && list.tensor(biases.down.name, 'float32'),
    correction: correction && list.ofExperts(correction.name),
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

function listScaledRouter(list: WeightList, architecture: DecoderArchitecture, index: number): Listed<ScaledRouter> {
  const { name } = parallelMlpScales(architecture, index).router;
  const scale = made({ scale: list.tensor(name, 'float32') }, ({ scale }, give) => {
    const product = give(scope(() => multiply(scale, constant(architecture.hiddenSize ** -0.5))));
    dispose(scale);
    return product;
  });
  const parts = { scale, group: list.routerGroup(layerLinears(architecture, index).router!) };
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
