import { type DecoderArchitecture, LLAMA_NAMES } from '@lorasmith/model-folder';
import { cast, type FloatDType, type KernelSet, keep, scope, type Tensor, tensorOf } from '@lorasmith/tensor';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { Block } from '../src/decoder/block.js';
import { Decoder } from '../src/decoder/decoder.js';
import { DecoderLayer } from '../src/decoder/decoder-layer.js';
import { FeedForward } from '../src/decoder/feed-forward.js';
import { Norm } from '../src/decoder/norm.js';
import { SelfAttention } from '../src/decoder/self-attention.js';
import { DenseLinear, type LinearGroup } from '../src/frozen-linear.js';

const SCALE = 1 / Math.sqrt(4);

/** Two layers, two queries to a key, heads that together are not as wide as the model. */
export const TINY_ARCHITECTURE: DecoderArchitecture = {
  kind: 'decoder',
  family: 'llama',
  names: LLAMA_NAMES,
  vocabSize: 23,
  hiddenSize: 10,
  intermediateSize: 12,
  layerCount: 2,
  headCount: 4,
  keyValueHeadCount: 2,
  headDim: 4,
  embeddingScale: 1,
  branchScale: 1,
  logitScale: 1,
  norm: { kind: 'rms', epsilon: 1e-5, weightOffset: 0 },
  ropes: [{ theta: 100, partialRotaryFactor: 1, interleaved: false, scaling: null }],
  attention: {
    softcap: null,
    queryGrowth: null,
    queryKeyNorm: 'head',
    valueNorm: null,
    outputGate: null,
  },
  layers: [
    { mixer: { kind: 'attention', scale: SCALE, window: null, rope: 0 }, mlp: { kind: 'dense' } },
    { mixer: { kind: 'attention', scale: SCALE, window: null, rope: 0 }, mlp: { kind: 'dense' } },
  ],
  layerInputs: null,
  mlp: { gated: true, activation: 'silu' },
  bias: { queryKeyValue: false, attentionOutput: false, mlp: false },
  transposedWeights: false,
  logitSoftcap: null,
  tiedHead: false,
  maxPositions: 128,
  ignoredDropout: [],
  bosTokenId: null,
  eosTokenIds: [],
  padTokenId: null,
};

/** A decoder with random weights, the same for the same seed; the caller disposes of it. */
export function tinyDecoder(kernels: KernelSet, dtype: FloatDType = 'float32', seed = 1): Decoder {
  const architecture = TINY_ARCHITECTURE;
  const { vocabSize, hiddenSize, intermediateSize, layerCount, headCount, keyValueHeadCount, headDim } = architecture;
  let drawn = 0;
  const random = (shape: number[], type: FloatDType, scale: number, centre = 0): Tensor => {
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    const values = normalNumbers(size, seed * 1000 + drawn++).map((value) => centre + scale * value);
    return keep(scope(() => cast(tensorOf(values, shape), type)));
  };
  const norm = () => new Norm(kernels, architecture.norm, random([hiddenSize], 'float32', 0.2, 1), null);
  const group = (inFeatures: number, modules: [name: string, outFeatures: number][]): LinearGroup => {
    const outFeatures = modules.reduce((sum, [, out]) => sum + out, 0);
    const weight = random([outFeatures, inFeatures], dtype, 1 / Math.sqrt(inFeatures));
    const named = modules.map(([name, out]) => ({ name, outFeatures: out }));
    return { modules: named, linear: new DenseLinear(kernels, weight, null) };
  };
  const layers = Array.from({ length: layerCount }, (_, index) => {
    const name = (path: string) => `model.layers.${index}.${path}`;
    const attentionNorm = norm();
    const queryKeyValue = group(hiddenSize, [
      [name('self_attn.q_proj'), headCount * headDim],
      [name('self_attn.k_proj'), keyValueHeadCount * headDim],
      [name('self_attn.v_proj'), keyValueHeadCount * headDim],
    ]);
    const output = group(headCount * headDim, [[name('self_attn.o_proj'), hiddenSize]]);
    const mlpNorm = norm();
    const gateUp = group(hiddenSize, [
      [name('mlp.gate_proj'), intermediateSize],
      [name('mlp.up_proj'), intermediateSize],
    ]);
    const down = group(intermediateSize, [[name('mlp.down_proj'), hiddenSize]]);
    const attention = new SelfAttention(architecture, index, { queryKeyValue, headNorms: null, sinks: null, output });
    return new DecoderLayer([
      new Block({ norm: attentionNorm, sublayer: attention }),
      new Block({ norm: mlpNorm, sublayer: new FeedForward(architecture.mlp, { gateUp, down }) }),
    ]);
  });
  return new Decoder(architecture, dtype, kernels, {
    embedding: random([vocabSize, hiddenSize], dtype, 1),
    positions: null,
    layerInputs: null,
    layers,
    finalNorm: norm(),
    head: random([vocabSize, hiddenSize], dtype, 0.5),
  });
}
