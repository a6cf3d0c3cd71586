import {
  type DecoderArchitecture,
  hasLinearAttention,
  layerLinears,
  type ModelFolder,
  tensorName,
} from '@lorasmith/model-folder';
import { add, constant, dispose, type FloatDType, reshape, scope, type Tensor } from '@lorasmith/tensor';
import { type LoadOptions, WeightSource } from '../weight-source.js';
import { Block } from './block.js';
import { Decoder } from './decoder.js';
import { DecoderLayer } from './decoder-layer.js';
import { FeedForward } from './feed-forward.js';
import { GatedDeltaNet } from './gated-delta-net.js';
import { Norm } from './norm.js';
import { SelfAttention } from './self-attention.js';

/** Reads a decoder's weights; linear layers with the same input are stacked. */
export async function loadDecoder(folder: ModelFolder, dtype: FloatDType, options: LoadOptions = {}): Promise<Decoder> {
  const { architecture } = folder;
  if (architecture.kind !== 'decoder') throw new Error(`model ${folder.name} is a ${architecture.kind}, not a decoder`);
  return await WeightSource.reading(folder, dtype, options, async (source) => {
    const { names, tiedHead, layerCount } = architecture;
    const weightOf = (path: string, as?: FloatDType) => source.tensor(tensorName(names, `${path}.weight`), as);
    const [embedding, positions, layers, finalNorm, ownHead] = await Promise.all([
      weightOf(names.embedding),
      names.positions === null ? null : weightOf(names.positions, 'float32'),
      Promise.all(Array.from({ length: layerCount }, (_, index) => loadLayer(source, architecture, index))),
      loadNorm(source, architecture, names.finalNorm),
      tiedHead ? null : weightOf(names.head),
    ]);
    const weights = { embedding, positions, layers, finalNorm, head: ownHead ?? embedding };
    return new Decoder(architecture, dtype, weights, { logitsInChunk: options.logitsInChunk });
  });
}

async function loadLayer(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<DecoderLayer> {
  const { names, branchScale } = architecture;
  const linears = layerLinears(architecture, index);
  const normIfAny = (path: string | null) => loadNormIfAny(source, architecture, index, path);
  const [attentionNorm, attention, attentionBranchNorm, mlpNorm, gateUp, down, mlpBranchNorm] = await Promise.all([
    normIfAny(names.attentionNorm),
    hasLinearAttention(architecture, index)
      ? loadLinearAttention(source, architecture, index)
      : loadAttention(source, architecture, index),
    normIfAny(names.attentionBranchNorm),
    normIfAny(names.mlpNorm),
    source.linearGroup(linears.gateUp),
    source.linearGroup([linears.down]),
    normIfAny(names.mlpBranchNorm),
  ]);
  const feedForward = new FeedForward(architecture.mlp, { gateUp, down });
  return new DecoderLayer([
    new Block({ norm: attentionNorm, sublayer: attention, branchNorm: attentionBranchNorm, branchScale }),
    new Block({ norm: mlpNorm, sublayer: feedForward, branchNorm: mlpBranchNorm, branchScale }),
  ]);
}

async function loadAttention(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<SelfAttention> {
  const { queryNorm, keyNorm } = architecture.names;
  const { attentionInputs, attentionOutput } = layerLinears(architecture, index);
  const [query, key, queryKeyValue, output] = await Promise.all([
    loadNormIfAny(source, architecture, index, queryNorm),
    loadNormIfAny(source, architecture, index, keyNorm),
    source.linearGroup(attentionInputs),
    source.linearGroup([attentionOutput]),
  ]);
  return new SelfAttention(architecture, index, {
    queryKeyValue,
    queryKeyNorms: query && key && { query, key },
    output,
  });
}

async function loadLinearAttention(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
): Promise<GatedDeltaNet> {
  const { names, norm } = architecture;
  const paths = names.linearAttention!;
  const own = architecture.linearAttention!;
  const { attentionInputs, attentionOutput } = layerLinears(architecture, index);
  const read = (path: string) => source.tensor(tensorName(names, `${names.layers}.${index}.${path}`), 'float32');
  const [inputs, filters, decayLog, timeStepBias, normWeight, output] = await Promise.all([
    source.linearGroup(attentionInputs),
    read(`${paths.convolution}.weight`),
    read(paths.decayLog),
    read(paths.timeStepBias),
    read(`${paths.norm}.weight`),
    source.linearGroup([attentionOutput]),
  ]);
  const convolution = source.give(scope(() => reshape(filters, [-1, own.convolutionTaps]))); // [mixed, taps]
  dispose(filters);
  source.checkDecays(tensorName(names, `${names.layers}.${index}.${paths.decayLog}`), decayLog);
  // Its weights are no offsets, whatever those of the other norms are.
  const ownNorm = new Norm({ ...norm, weightOffset: 0 }, normWeight, null);
  return new GatedDeltaNet(own, { inputs, convolution, decayLog, timeStepBias, norm: ownNorm, output });
}

async function loadNormIfAny(
  source: WeightSource,
  architecture: DecoderArchitecture,
  index: number,
  path: string | null,
): Promise<Norm | null> {
  return path === null ? null : await loadNorm(source, architecture, `${architecture.names.layers}.${index}.${path}`);
}

async function loadNorm(source: WeightSource, { names, norm }: DecoderArchitecture, path: string): Promise<Norm> {
  const read = (part: string) => source.tensor(tensorName(names, `${path}.${part}`), 'float32');
  const [weight, bias] = await Promise.all([read('weight'), norm.kind === 'layer' ? read('bias') : null]);
  return new Norm(norm, norm.weightOffset === 0 ? weight : source.give(plusOne(weight)), bias);
}

function plusOne(weight: Tensor): Tensor {
  const sum = scope(() => add(weight, constant(1)));
  dispose(weight);
  return sum;
}
