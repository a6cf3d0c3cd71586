import { type DecoderArchitecture, layerLinears, type ModelFolder, tensorName } from '@lorasmith/model-folder';
import { add, constant, dispose, type FloatDType, scope, type Tensor } from '@lorasmith/tensor';
import { type LoadOptions, WeightSource } from '../weight-source.js';
import { Block } from './block.js';
import { Decoder } from './decoder.js';
import { DecoderLayer } from './decoder-layer.js';
import { FeedForward } from './feed-forward.js';
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
  const { names } = architecture;
  const linears = layerLinears(architecture, index);
  const normIfAny = (path: string | null) =>
    path === null ? null : loadNorm(source, architecture, `${names.layers}.${index}.${path}`);
  const [
    query,
    key,
    attentionNorm,
    queryKeyValue,
    attentionOutput,
    attentionBranchNorm,
    mlpNorm,
    gateUp,
    down,
    mlpBranchNorm,
  ] = await Promise.all([
    normIfAny(names.queryNorm),
    normIfAny(names.keyNorm),
    normIfAny(names.attentionNorm),
    source.linearGroup(linears.queryKeyValue),
    source.linearGroup([linears.attentionOutput]),
    normIfAny(names.attentionBranchNorm),
    normIfAny(names.mlpNorm),
    source.linearGroup(linears.gateUp),
    source.linearGroup([linears.down]),
    normIfAny(names.mlpBranchNorm),
  ]);
  const queryKeyNorms = query && key && { query, key };
  const attentionWeights = { queryKeyValue, queryKeyNorms, output: attentionOutput };
  const selfAttention = new SelfAttention(architecture, index, attentionWeights);
  const feedForward = new FeedForward(architecture.mlp, { gateUp, down });
  const { branchScale } = architecture;
  return new DecoderLayer([
    new Block({ norm: attentionNorm, sublayer: selfAttention, branchNorm: attentionBranchNorm, branchScale }),
    new Block({ norm: mlpNorm, sublayer: feedForward, branchNorm: mlpBranchNorm, branchScale }),
  ]);
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
