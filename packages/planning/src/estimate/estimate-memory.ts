import type { AdaptableModule } from '@lorasmith/contracts';
import type { DecoderArchitecture } from '@lorasmith/model-folder';
import type { Target } from '../target-ranks.js';
import { adaptedLayers } from './adapted-layers.js';
import type { PassLoad } from './batch-load.js';
import { bytesPerLogit, type EngineMemory } from './engine-memory.js';

type Precision = 'float32' | 'bfloat16';

export interface MemoryOfDecoder {
  architecture: DecoderArchitecture;
  /** Bytes of the frozen weights, as they are in memory. */
  weightBytes: number;
  /** Bytes of the most quantized weights that are decoded at a time; 0 where products decode them on the way. */
  decodedBytes: number;
  targets: readonly Target[];
  trainedParameters: number;
  precision: Precision;
  recompute: boolean;
  dropout: number;
  engine: EngineMemory;
  logitsInChunk: number;
  /** Bytes of the key-value cache for the prompts of its samples; 0 without them. */
  sampleCacheBytes: number;
}

/** Vectors of all trained parameters that a job holds: parameters, two moments, the gradients of a pass and of a step, a copy. */
const HELD_VECTORS = 6;
/** The vectors of AdamW's intermediate results, which one job has at a time. */
const UPDATE_VECTORS = 4;
/** Vectors of the head's parameters in the backward pass of a chunk of logits: its gradient, that of the chunks before, their sum. */
const HEAD_VECTORS = 3;
/** Tokenizer, plan and the rest of the JavaScript heap. */
const PLANNING_BYTES = 100e6;
/** The part of that which each further job has for itself. */
const FURTHER_PLAN_BYTES = 25e6;
/** Scores of one block of attention in TensorFlow's own ops: MOST_SCORES of packages/tensor. */
export const SCORES_PER_BLOCK = 32 * 2 ** 20;
/** Rows up to this length keep the weights of such attention; those of longer ones are computed again. */
const LONGEST_WITH_WEIGHTS = 512;

/** The sizes that decide how much memory a training needs. */
export interface MemoryNeeds {
  memory: MemoryOfDecoder;
  load: PassLoad;
  /** The largest pass of its evaluations; null where it has none. */
  evaluation: PassLoad | null;
}

/** Expected peak of a trainer with one job in bytes, beyond what it takes before it has a model. */
export function decoderMemory(job: MemoryNeeds): number {
  return jointMemory([job], 0);
}

/**
 * Expected peak in bytes of a trainer with several jobs on one base model in one precision, beyond what it takes before it
 * has a model: the base model once, what each job holds, and the largest pass.
 * @param passTokens Tokens of a pass that several jobs share. A job with a larger micro-batch has passes of its own.
 */
export function jointMemory(jobs: readonly MemoryNeeds[], passTokens: number): number {
  const [first] = jobs;
  if (first === undefined) return 0;
  const { weightBytes: weights, engine } = first.memory;
  const trained = jobs.map(({ memory }) => memory.trainedParameters);
  const vectors = 4 * (HELD_VECTORS * sum(trained) + UPDATE_VECTORS * Math.max(...trained));
  const plans = engine.holdsProcess ? PLANNING_BYTES + FURTHER_PLAN_BYTES * (jobs.length - 1) : 0;
  const passes = [true, false].map((recompute) =>
    sharedPassBytes(
      jobs.filter(({ memory }) => memory.recompute === recompute),
      passTokens,
    ),
  );
  // Evaluations take turns with the passes that train.
  const evaluations = jobs.map((job) => (job.evaluation === null ? 0 : forwardBytes(job.memory, job.evaluation)));
  const checks = jobs.map(({ memory }) => mergedHeadBytes(memory));
  const pass = Math.max(...passes, ...evaluations, ...checks);
  const caches = jobs.map(({ memory }) => memory.sampleCacheBytes);
  // A job alone has no pass while it answers its prompts; others go on.
  const beyond = jobs.length === 1 ? Math.max(pass, ...caches) : pass + sum(caches);
  return plans + (weights + vectors + beyond) * engine.slack;
}

/** Bytes of the largest pass of jobs that all compute layers again, or none of which does: only such share passes. */
function sharedPassBytes(jobs: readonly MemoryNeeds[], passTokens: number): number {
  const [first] = jobs;
  if (first === undefined) return 0;
  const most = (of: (load: PassLoad) => number) => Math.max(...jobs.map(({ load }) => of(load)));
  const inAll = (of: (load: PassLoad) => number) => sum(jobs.map(({ load }) => of(load)));
  const mostTokens = Math.max(
    most((load) => load.mostTokens),
    Math.min(
      passTokens,
      inAll((load) => load.mostTokens),
    ),
  );
  const mostLabels = Math.min(
    mostTokens,
    inAll((load) => load.mostLabels),
  );
  const targets = jobs.flatMap(({ memory }) => memory.targets);
  const dropout = Math.max(...jobs.map(({ memory }) => memory.dropout));
  return passBytes(
    { ...first.memory, targets, dropout },
    { mostTokens, mostLabels, longestRow: most((load) => load.longestRow) },
  );
}

/** The memory that a job adds to a trainer that trains others on the same base model, with adapters on the same layers. */
export function addedMemory(job: MemoryNeeds, passTokens: number): number {
  const load = { ...job.load, mostTokens: passTokens, mostLabels: passTokens };
  const others = { load, memory: { ...job.memory, sampleCacheBytes: 0 }, evaluation: null };
  return jointMemory([others, job], passTokens) - jointMemory([others], passTokens);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

/** Expected bytes that the tensors of a forward and a backward pass hold at most. */
export function passBytes(memory: MemoryOfDecoder, load: PassLoad): number {
  const { architecture } = memory;
  const width = bytesPerNumber(memory.precision);
  const layers = adaptedLayers(architecture, memory.targets);
  const ofLayer = savedByLayer(architecture, memory.targets, width) + savedWeights(memory, load, width);
  const saved = memory.recompute ? layers * 4 * architecture.hiddenSize + ofLayer : layers * ofLayer;
  return load.mostTokens * saved + workingBytes(memory, load);
}

/** The same of a forward pass that saves nothing, at most. */
function forwardBytes(memory: MemoryOfDecoder, load: PassLoad): number {
  return load.mostTokens * 4 * memory.architecture.hiddenSize + workingBytes({ ...memory, dropout: 0 }, load);
}

/** The memory within one layer, or at the output head. */
function workingBytes(memory: MemoryOfDecoder, load: PassLoad): number {
  const { architecture, engine } = memory;
  const width = bytesPerNumber(memory.precision);
  const passing = load.mostTokens * passingBytes(memory, width) + memory.decodedBytes;
  const scores = engine.fused ? 0 : scoresBytes(architecture, load, width);
  const logits = Math.min(memory.logitsInChunk, load.mostLabels * architecture.vocabSize);
  const ofLogits = logits * bytesPerLogit(engine, memory.precision) + 4 * HEAD_VECTORS * headParameters(memory);
  const ofLayers = Math.max(passing, scores);
  // Logits are gone when the layers' backward pass begins.
  return engine.reuses ? Math.max(ofLayers, ofLogits) : ofLayers + ofLogits;
}

/** Trained parameters of the output head; 0 where it is not adapted. */
function headParameters({ architecture, targets }: MemoryOfDecoder): number {
  const heads = targets.filter(({ name }) => name === architecture.names.head);
  return Math.max(0, ...heads.map(({ rank, in_features, out_features }) => rank * (in_features + out_features)));
}

/**
 * Bytes of the check of a finished adapter: the widest layer that it adapts is merged. Only the output head is wider than what a
 * pass has at a time.
 */
function mergedHeadBytes(memory: MemoryOfDecoder): number {
  if (headParameters(memory) === 0) return 0;
  const { vocabSize, hiddenSize } = memory.architecture;
  return vocabSize * hiddenSize * (memory.engine.fused ? 4 : 8);
}

export function bytesPerNumber(precision: Precision): number {
  return precision === 'bfloat16' ? 2 : 4;
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
  const queryKeyNorms = names.queryNorm === null ? 0 : qkv;
  // The residual stream before and after attention is float32, and so is what norms of branches, queries and keys save.
  const exact = 2 * hiddenSize + headCount + branchNorms * hiddenSize + queryKeyNorms;
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

/**
 * Bytes of the attention of one layer's backward pass in TensorFlow's own ops: three float32 numbers of each score of a
 * block.
 */
function scoresBytes(architecture: DecoderArchitecture, { mostTokens, longestRow }: PassLoad, width: number): number {
  const { headCount, keyValueHeadCount, headDim } = architecture;
  const scores = Math.min(SCORES_PER_BLOCK, headCount * mostTokens * longestRow);
  const heads = (headCount + 2 * keyValueHeadCount) * headDim;
  return 12 * scores + 2 * width * mostTokens * heads;
}
