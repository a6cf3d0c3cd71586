import {
  type DecoderArchitecture,
  layerInputProjection,
  layerLinears,
  type Mixer,
  type ModelFolder,
  tensorName,
  tensorOfLayer,
} from '@lorasmith/model-folder';
import type { FloatDType, KernelSet } from '@lorasmith/tensor';
import { built, type Listed, type LoadOptions, loadListed } from '../loading/listed.js';
import { WeightList } from '../loading/weight-list.js';
import { Block, type Sublayer } from './block.js';
import { Decoder } from './decoder.js';
import { DecoderLayer } from './decoder-layer.js';
import { listGatedDeltaNet } from './gated-delta-net.js';
import { listLatentAttention } from './latent-attention.js';
import { LayerInputBranch, LayerInputs } from './layer-inputs.js';
import { listMlp, listMlpNorm } from './mlps.js';
import { listNorm, listNormIfAny } from './norm.js';
import { listSelfAttention } from './self-attention.js';

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
  const { names, branchScale } = architecture;
  const normIfAny = (path: string | null) => listNormIfAny(list, architecture, index, path);
  const parts = {
    attentionNorm: normIfAny(names.attentionNorm),
    mixer: listMixer(list, architecture, index),
    attentionBranchNorm: normIfAny(names.attentionBranchNorm),
    mlpNorm: listMlpNorm(list, architecture, index),
    mlp: listMlp(list, architecture, index),
    mlpBranchNorm: normIfAny(names.mlpBranchNorm),
    inputBlock: listInputBlock(list, architecture, index),
    scale: names.layerScale === null ? null : list.factor(tensorOfLayer(names, index, names.layerScale)),
  };
  return built(parts, ({ inputBlock, scale, ...of }) => {
    const blocks = [
      new Block({ norm: of.attentionNorm, sublayer: of.mixer, branchNorm: of.attentionBranchNorm, branchScale }),
      new Block({ norm: of.mlpNorm, sublayer: of.mlp, branchNorm: of.mlpBranchNorm, branchScale }),
    ];
    return new DecoderLayer(inputBlock === null ? blocks : [...blocks, inputBlock], scale ?? 1);
  });
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

type ListMixer = (list: WeightList, architecture: DecoderArchitecture, layer: number) => Listed<Sublayer>;

/** The kinds of mixers. To add one, add its sublayer to this folder and a line here. */
const MIXERS: Readonly<Record<Mixer['kind'], ListMixer>> = {
  attention: listSelfAttention,
  latent: listLatentAttention,
  linear: listGatedDeltaNet,
};

/** The mixer of a layer. */
const listMixer: ListMixer = (list, architecture, layer) =>
  MIXERS[architecture.layers[layer]!.mixer.kind](list, architecture, layer);
