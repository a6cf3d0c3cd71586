import type { AdaptableModule } from '@lorasmith/contracts';
import { type DecoderArchitecture, LOGITS_PER_CHUNK } from '@lorasmith/model-folder';
import { layerIndexOf } from './adapted-layers.js';
import type { BatchLoad } from './batch-load.js';

type Precision = 'float32' | 'bfloat16';

export interface MemoryOfDecoder {
  architecture: DecoderArchitecture;
  parameterCount: number;
  targets: readonly AdaptableModule[];
  trainedParameters: number;
  precision: Precision;
  recompute: boolean;
  dropout: number;
}

/** Vectors of all trained parameters in memory at once: parameters, two moments, gradients, and AdamW's intermediate results. */
const PARAMETER_VECTORS = 10;
/** Tokenizer, plan and the rest of the JavaScript heap. */
const PLANNING_BYTES = 100e6;
/** What the allocator holds beyond what is requested. */
const ALLOCATOR_SLACK = 1.08;

/** Expected peak of a trainer process in bytes, beyond what it takes before it has a model. */
export function decoderMemory(memory: MemoryOfDecoder, load: BatchLoad): number {
  const { architecture } = memory;
  const width = bytesPerNumber(memory.precision);
  const layers = adaptedLayers(architecture, memory.targets);
  const saved = memory.recompute
    ? layers * 4 * architecture.hiddenSize + savedByLayer(architecture, memory.targets, width)
    : layers * savedByLayer(architecture, memory.targets, width);
  const tokens = load.mostTokens * (saved + passingBytes(memory, width));
  const logits = Math.min(LOGITS_PER_CHUNK, load.mostLabels * architecture.vocabSize) * 2 * width;
  const weights = memory.parameterCount * bytesPerWeight(memory.precision);
  const vectors = PARAMETER_VECTORS * 4 * memory.trainedParameters;
  return PLANNING_BYTES + (weights + vectors + logits + tokens) * ALLOCATOR_SLACK;
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

/** Bytes per token of tensors that live within one layer's backward pass. */
function passingBytes({ architecture, targets, dropout }: MemoryOfDecoder, width: number): number {
  const { hiddenSize, intermediateSize, mlp } = architecture;
  const gated = width * (gateUpWidth(mlp, intermediateSize) + intermediateSize);
  // No layer keeps a mask. It is drawn in float32, compared, rounded and scaled, for one layer at a time.
  const widest = Math.max(...targets.map(({ in_features: inFeatures }) => inFeatures));
  const drawn = dropout > 0 ? (4 + 1 + 2 * width) * widest : 0;
  return Math.max(gated, drawn) + (4 + width) * 2 * hiddenSize;
}
