import type { AdaptableModule } from '@lorasmith/contracts';
import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { layerIndexOf } from './adapted-layers.js';
import type { BatchLoad } from './batch-load.js';
import { bytesPerLogit, type EngineMemory } from './engine-memory.js';

type Precision = 'float32' | 'bfloat16';

export interface MemoryOfDecoder {
  architecture: DecoderArchitecture;
  parameterCount: number;
  targets: readonly AdaptableModule[];
  trainedParameters: number;
  precision: Precision;
  recompute: boolean;
  dropout: number;
  engine: EngineMemory;
  logitsInChunk: number;
}

type PassLoad = Pick<BatchLoad, 'mostTokens' | 'mostLabels' | 'longestRow'>;

/** Vectors of all trained parameters in memory at once: parameters, two moments, gradients, and AdamW's intermediate results. */
const PARAMETER_VECTORS = 10;
/** Tokenizer, plan and the rest of the JavaScript heap. */
const PLANNING_BYTES = 100e6;
/** Of one block of attention in TensorFlow's own ops: MOST_SCORES of packages/tensor. */
export const SCORES_PER_BLOCK = 32 * 2 ** 20;
/** Rows up to this length keep the weights of such attention; those of longer ones are computed again. */
const LONGEST_WITH_WEIGHTS = 512;

/** Expected peak of a trainer in bytes, beyond what it takes before it has a model. */
export function decoderMemory(memory: MemoryOfDecoder, load: PassLoad): number {
  const weights = memory.parameterCount * bytesPerWeight(memory.precision);
  const vectors = PARAMETER_VECTORS * 4 * memory.trainedParameters;
  const process = memory.engine.holdsProcess ? PLANNING_BYTES : 0;
  return process + (weights + vectors + passBytes(memory, load)) * memory.engine.slack;
}

/** Expected bytes that the tensors of a forward and a backward pass hold at most. */
export function passBytes(memory: MemoryOfDecoder, load: PassLoad): number {
  const { architecture, engine } = memory;
  const width = bytesPerNumber(memory.precision);
  const layers = adaptedLayers(architecture, memory.targets);
  const ofLayer = savedByLayer(architecture, memory.targets, width) + savedWeights(memory, load, width);
  const saved = memory.recompute ? layers * 4 * architecture.hiddenSize + ofLayer : layers * ofLayer;
  const passing = load.mostTokens * passingBytes(memory, width);
  const scores = engine.fused ? 0 : scoresBytes(architecture, load, width);
  const logits = Math.min(memory.logitsInChunk, load.mostLabels * architecture.vocabSize);
  const ofLogits = logits * bytesPerLogit(engine, memory.precision);
  const ofLayers = Math.max(passing, scores);
  // Logits are gone when the layers' backward pass begins.
  return load.mostTokens * saved + (engine.reuses ? Math.max(ofLayers, ofLogits) : ofLayers + ofLogits);
}

function bytesPerNumber(precision: Precision): number {
  return precision === 'bfloat16' ? 2 : 4;
}

/** Of the frozen weights, which are stored as they are computed with. Quantized weights will be one more case. */
function bytesPerWeight(storage: Precision): number {
  return bytesPerNumber(storage);
}

function adaptedLayers(architecture: DecoderArchitecture, targets: readonly AdaptableModule[]): number {
  return architecture.layerCount - Math.min(...targets.map(({ name }) => layerIndexOf(name)));
}

/** Bytes per token that a layer keeps between its forward and its backward pass. */
function savedByLayer(architecture: DecoderArchitecture, targets: readonly AdaptableModule[], width: number): number {
  const { hiddenSize, intermediateSize, headCount, keyValueHeadCount, headDim, names, mlp } = architecture;
  const attended = headCount * headDim;
  const qkv = (headCount + 2 * keyValueHeadCount) * headDim;
  const adapts = (parts: readonly string[]) =>
    targets.some(({ name }) => parts.some((part) => name.endsWith(`.${part}`)));
  // The input of an adapted layer is saved for the gradient of its A.
  const inputs =
    (adapts(names.queryKeyValue) ? hiddenSize : 0) +
    (adapts(names.gateUp) ? hiddenSize : 0) +
    (adapts([names.down]) ? intermediateSize : 0);
  const branchNorms = [names.attentionBranchNorm, names.mlpBranchNorm].filter((name) => name !== null).length;
  const headNorms = names.queryNorm === null ? 0 : qkv;
  // The residual stream before and after attention is float32, and so is what norms of branches and heads save.
  const exact = 2 * hiddenSize + headCount + branchNorms * hiddenSize + headNorms;
  return 4 * exact + width * (qkv + attended + gateUpWidth(mlp, intermediateSize) + inputs);
}

function gateUpWidth({ gated }: DecoderArchitecture['mlp'], intermediateSize: number): number {
  return gated ? 2 * intermediateSize : intermediateSize;
}

/** Bytes per token of the weights of attention that a layer keeps: none with the fused op, and none of long rows. */
function savedWeights({ architecture, engine }: MemoryOfDecoder, { longestRow }: PassLoad, width: number): number {
  return engine.fused || longestRow > LONGEST_WITH_WEIGHTS ? 0 : width * architecture.headCount * longestRow;
}

/** Bytes per token of tensors that live within one layer's backward pass. */
function passingBytes({ architecture, targets, dropout, engine }: MemoryOfDecoder, width: number): number {
  const { hiddenSize, intermediateSize, mlp } = architecture;
  const gateUp = gateUpWidth(mlp, intermediateSize);
  const gated = width * (gateUp + intermediateSize);
  // Gate, up, their activation, its slope and their gradients are float32.
  const copies = engine.fused ? 0 : 4 * (gateUp + 6 * intermediateSize);
  // No layer keeps a mask. It is drawn in float32, compared, rounded and scaled, for one layer at a time.
  const widest = Math.max(...targets.map(({ in_features: inFeatures }) => inFeatures));
  const drawn = dropout > 0 ? (4 + 1 + 2 * width) * widest : 0;
  return Math.max(gated + copies, drawn) + (4 + width) * 2 * hiddenSize;
}

/** Of the attention of one layer's backward pass in TensorFlow's own ops: three float32 numbers of each score of a block. */
function scoresBytes(architecture: DecoderArchitecture, { mostTokens, longestRow }: PassLoad, width: number): number {
  const { headCount, keyValueHeadCount, headDim } = architecture;
  const scores = Math.min(SCORES_PER_BLOCK, headCount * mostTokens * longestRow);
  const heads = (headCount + 2 * keyValueHeadCount) * headDim;
  return 12 * scores + 2 * width * mostTokens * heads;
}
