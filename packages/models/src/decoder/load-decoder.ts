import {
  besideNames,
  besideScales,
  type DecoderArchitecture,
  type ExpertParameter,
  expertParameters,
  expertsOf,
  expertTensors,
  layerInputProjection,
  layerLinears,
  type Mlp,
  type ModelFolder,
  tensorName,
} from '@lorasmith/model-folder';
import { constant, dispose, type FloatDType, multiply, scope } from '@lorasmith/tensor';
import { type ExpertGroups, expertGroups } from '../frozen-experts.js';
import { type LoadOptions, WeightSource } from '../weight-source.js';
import { Block, type Sublayer } from './block.js';
import { Decoder } from './decoder.js';
import { DecoderLayer } from './decoder-layer.js';
import { FeedForward } from './feed-forward.js';
import { LayerInputBranch } from './layer-input-branch.js';
import { LayerInputs } from './layer-inputs.js';
import { loadNorm, loadNormIfAny, unitNorm } from './load-norm.js';
import { loadMixer } from './mixers.js';
import { MlpBesideExperts } from './mlp-beside-experts.js';
import type { Norm } from './norm.js';
import { FrozenRouter, type Router, ScaledRouter } from './router.js';
import { SharedExpert } from './shared-expert.js';
import { type ExpertBiases, SparseMlp } from './sparse-mlp.js';

/** Reads a decoder's weights; linear layers with the same input are stacked. */
export async function loadDecoder(folder: ModelFolder, dtype: FloatDType, options: LoadOptions = {}): Promise<Decoder> {
  const { architecture } = folder;
  if (architecture.kind !== 'decoder') throw new Error(`model ${folder.name} is a ${architecture.kind}, not a decoder`);
  return await WeightSource.reading(folder, dtype, options, async (source) => {
    const { names, tiedHead, layerCount } = architecture;
    const weightOf = (path: string, as?: FloatDType) => source.tensor(tensorName(names, `${path}.weight`), as);
    const [embedding, positions, layerInputs, layers, finalNorm, ownHead] = await Promise.all([
      weightOf(names.embedding),
      names.positions === null ? null : weightOf(names.positions, 'float32'),
      loadLayerInputs(source, architecture),
      Promise.all(Array.from({ length: layerCount }, (_, index) => loadLayer(source, architecture, index))),
      loadNorm(source, architecture, names.finalNorm),
      tiedHead ? null : weightOf(names.head),
    ]);
    const weights = { embedding, positions, layerInputs, layers, finalNorm, head: ownHead ?? embedding };
    return new Decoder(architecture, dtype, weights, { logitsInChunk: options.logitsInChunk });
  });
}

async function loadLayer(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<DecoderLayer> {
  const { names, branchScale, layers } = architecture;
  const ofMlp = MLPS[layers[index]!.mlp.kind];
  const normIfAny = (path: string | null) => loadNormIfAny(source, architecture, index, path);
  const [attentionNorm, mixer, attentionBranchNorm, mlpNorm, mlp, mlpBranchNorm, inputBlock, scale] = await Promise.all(
    [
      normIfAny(names.attentionNorm),
      loadMixer(source, architecture, index),
      normIfAny(names.attentionBranchNorm),
      ofMlp.norm(source, architecture, index),
      ofMlp.sublayer(source, architecture, index),
      normIfAny(names.mlpBranchNorm),
      loadInputBlock(source, architecture, index),
      names.layerScale === null ? 1 : source.factor(tensorName(names, `${names.layers}.${index}.${names.layerScale}`)),
    ],
  );
  const blocks = [
    new Block({ norm: attentionNorm, sublayer: mixer, branchNorm: attentionBranchNorm, branchScale }),
    new Block({ norm: mlpNorm, sublayer: mlp, branchNorm: mlpBranchNorm, branchScale }),
  ];
  return new DecoderLayer(inputBlock === null ? blocks : [...blocks, inputBlock], scale);
}

type LoadOfLayer<Part> = (source: WeightSource, architecture: DecoderArchitecture, layer: number) => Promise<Part>;

/** A kind of MLP: the norm of what it reads, null where there is none, and its weights. */
interface MlpLoader {
  norm: LoadOfLayer<Norm | null>;
  sublayer: LoadOfLayer<Sublayer>;
}

const loadMlpNorm: MlpLoader['norm'] = (source, architecture, layer) =>
  loadNormIfAny(source, architecture, layer, architecture.names.mlpNorm);

/** The kinds of MLPs. To add one, add its sublayer to this folder and a line here. */
const MLPS: Readonly<Record<Mlp['kind'], MlpLoader>> = {
  dense: { norm: loadMlpNorm, sublayer: loadFeedForward },
  sparse: { norm: loadMlpNorm, sublayer: loadSparseMlp },
  // MLP and experts each have weights of their own for what they read.
  beside: {
    norm: async (source, architecture) => unitNorm(source, architecture, architecture.hiddenSize),
    sublayer: loadMlpBesideExperts,
  },
};

async function loadMlpBesideExperts(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<MlpBesideExperts> {
  const { names } = architecture;
  const beside = besideNames(architecture);
  const scales = besideScales(architecture, index);
  const normOf = (path: string) => loadNorm(source, architecture, `${names.layers}.${index}.${path}`);
  const [ofMlp, mlp, mlpBranchNorm, experts, branchNorm] = await Promise.all([
    normOf(names.mlpNorm!),
    loadFeedForward(source, architecture, index),
    normOf(beside.mlpBranchNorm),
    loadExpertsWith(source, architecture, index, {
      router: loadScaledRouter(source, architecture, index),
      expertScales: source.ofExperts(scales.experts.name),
      inputNorm: normOf(beside.norm),
    }),
    normOf(beside.branchNorm),
  ]);
  return new MlpBesideExperts(
    ofMlp.weight,
    { sublayer: mlp, branchNorm: mlpBranchNorm },
    { sublayer: experts, branchNorm },
  );
}

/** The MLP of a layer, or the shared expert's. */
async function loadFeedForward(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<FeedForward> {
  const { gateUp, down } = layerLinears(architecture, index).mlp!;
  const [ofGateUp, ofDown] = await Promise.all([source.linearGroup(gateUp), source.linearGroup([down])]);
  return new FeedForward(architecture.mlp, { gateUp: ofGateUp, down: ofDown });
}

async function loadSparseMlp(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<SparseMlp> {
  const { router, biases } = expertTensors(architecture, index);
  const frozen = Promise.all([source.router(router.name), biases && source.router(biases.router.name)]);
  return await loadExpertsWith(source, architecture, index, {
    router: frozen.then(([weight, bias]) => new FrozenRouter(weight, bias)),
    expertScales: null,
    inputNorm: null,
  });
}

/** The parts that differ between experts in the place of an MLP and beside one. */
interface ExpertsWith {
  router: Promise<Router>;
  /** `[experts]`: the factors of their weights; null: they have none */
  expertScales: Promise<Float32Array> | null;
  /** The norm with the weights of what they read; null: they read what the router does */
  inputNorm: Promise<Norm> | null;
}

async function loadExpertsWith(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
  own: ExpertsWith,
): Promise<SparseMlp> {
  const experts = expertsOf(architecture, index);
  const tensors = expertTensors(architecture, index);
  const [ofGateUp, ofDown] = expertParameters(architecture, index);
  const [router, biases, correction, expertScales, inputNorm, gateUp, down, shared] = await Promise.all([
    own.router,
    tensors.biases && loadBiases(source, tensors.biases),
    tensors.correction && source.ofExperts(tensors.correction.name),
    own.expertScales,
    own.inputNorm,
    loadExperts(source, ofGateUp),
    loadExperts(source, ofDown),
    experts.shared === null ? null : loadSharedExpert(source, architecture, index),
  ]);
  const inputScale = inputNorm?.weight ?? null;
  const weights = { router, biases, correction, expertScales, inputScale, gateUp, down, shared };
  return new SparseMlp(experts, architecture.mlp, weights);
}

async function loadScaledRouter(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<ScaledRouter> {
  const { name } = besideScales(architecture, index).router;
  const { router } = layerLinears(architecture, index);
  const [scale, linear] = await Promise.all([source.tensor(name, 'float32'), source.routerGroup(router!)]);
  const normed = source.give(scope(() => multiply(scale, constant(architecture.hiddenSize ** -0.5))));
  dispose(scale);
  return new ScaledRouter(normed, linear);
}

async function loadBiases(
  source: WeightSource,
  { gateUp, down }: NonNullable<ReturnType<typeof expertTensors>['biases']>,
): Promise<ExpertBiases> {
  const [ofGateUp, ofDown] = await Promise.all([source.tensor(gateUp.name), source.tensor(down.name, 'float32')]);
  return { gateUp: ofGateUp, down: ofDown };
}

async function loadExperts(source: WeightSource, parameter: ExpertParameter): Promise<ExpertGroups> {
  return expertGroups(parameter.name, await source.experts(parameter));
}

async function loadSharedExpert(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<SharedExpert> {
  const { sharedGate } = layerLinears(architecture, index);
  const [mlp, gate] = await Promise.all([
    loadFeedForward(source, architecture, index),
    sharedGate && source.linearGroup([sharedGate]),
  ]);
  return new SharedExpert(mlp, gate);
}

async function loadLayerInputs(source: WeightSource, architecture: DecoderArchitecture): Promise<LayerInputs | null> {
  const projection = layerInputProjection(architecture);
  if (projection === null) return null;
  const { names, layerCount } = architecture;
  const paths = names.layerInputs!;
  const [embedding, group, norm] = await Promise.all([
    source.tensor(tensorName(names, `${paths.embedding}.weight`)),
    source.linearGroup([projection]),
    loadNorm(source, architecture, paths.norm),
  ]);
  return new LayerInputs({ embedding, projection: group, norm }, layerCount);
}

/** The block that adds what a layer's input makes; null where layers have none. */
async function loadInputBlock(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<Block | null> {
  const { layerInput } = layerLinears(architecture, index);
  if (layerInput === null) return null;
  const { names, mlp } = architecture;
  const [gate, output, branchNorm] = await Promise.all([
    source.linearGroup([layerInput.gate]),
    source.linearGroup([layerInput.output]),
    loadNormIfAny(source, architecture, index, names.layerInputs!.branchNorm),
  ]);
  return new Block({ norm: null, sublayer: new LayerInputBranch(index, mlp.activation, { gate, output }), branchNorm });
}
