import { type DecoderArchitecture, headsOf } from '@lorasmith/model-folder';
import type { Target } from '../targets.js';
import { adaptedLayers } from './adapted-layers.js';
import type { LargestPass } from './batch-load.js';
import { bytesPerLogit, type EngineMemory } from './engine-memory.js';
import { mixerGradients, mixerTransient, repeatedInMixer, savedByMixer } from './layer-kinds/mixer-estimates.js';
import { mlpTransient, savedByMlp } from './layer-kinds/mlp-estimates.js';

type Precision = 'float32' | 'bfloat16';

export interface MemorySettings {
  architecture: DecoderArchitecture;
  /** Bytes of the frozen weights, as they are in memory. */
  weightBytes: number;
  /** Bytes of the most quantized weights that are decoded at a time; 0 where products decode them on the way. */
  decodedBytes: number;
  targets: readonly Target[];
  trainedParameters: number;
  optimizer: keyof typeof MOMENT_BYTES;
  precision: Precision;
  /** The count of recomputed layers, from the lowest adapted one on. */
  recomputedLayers: number;
  dropout: number;
  engine: EngineMemory;
  logitsInChunk: number;
  /** Bytes of the key-value cache for the prompts of its samples; 0 without them. */
  sampleCacheBytes: number;
}

/** Bytes of a moment for each trained parameter: in 8 bits, each 256 have a scale. */
const MOMENT_BYTES = { adamw: 4, adamw_8bit: 1 + 4 / 256 } as const;
/** Vectors of all trained parameters that a job keeps in addition to its two moments: parameters, gradients of a pass and of a step, a copy. */
const KEPT_VECTORS = 4;
/** The vectors of AdamW's intermediate results, without the new moments, which one job has at a time. */
const UPDATE_VECTORS = 2;
/** Vectors of the head's parameters in the backward pass of a chunk of logits: its gradient, that of the chunks before, their sum. */
const HEAD_VECTORS = 3;
/** Tokenizer, plan and the rest of the JavaScript heap. */
const PLANNING_BYTES = 100e6;
/** The part of {@link PLANNING_BYTES} that each further job adds. */
const FURTHER_PLAN_BYTES = 25e6;
/** Scores of one block of attention in TensorFlow's own ops: MOST_SCORES of packages/tensor. */
export const SCORES_PER_BLOCK = 32 * 2 ** 20;

/** The settings of a job and the sizes of its passes on which its memory depends. */
export interface MemoryNeeds {
  settings: MemorySettings;
  load: LargestPass;
  /** The largest pass of its evaluations, and of its reference; null where it has neither. */
  evaluation: LargestPass | null;
}

/** Expected peak of a trainer with one job in bytes, beyond what it takes before it has a model. */
export function decoderMemory(job: MemoryNeeds): number {
  return jointMemory([job], 0);
}

/**
 * Expected peak in bytes of a trainer with several jobs on one base model in one precision, beyond what it takes before it
 * has a model: the base model once, the parameters and optimizer of each job, and the largest pass.
 * @param passTokens Tokens of a pass that several jobs share. A job with a larger micro-batch has passes of its own.
 */
export function jointMemory(jobs: readonly MemoryNeeds[], passTokens: number): number {
  const [first] = jobs;
  if (first === undefined) return 0;
  const { weightBytes: weights, engine } = first.settings;
  const optimizers = (vectors: number) =>
    jobs.map(({ settings }) => settings.trainedParameters * (4 * vectors + 2 * MOMENT_BYTES[settings.optimizer]));
  const vectors = sum(optimizers(KEPT_VECTORS)) + Math.max(...optimizers(UPDATE_VECTORS));
  const plans = engine.countsProcess ? PLANNING_BYTES + FURTHER_PLAN_BYTES * (jobs.length - 1) : 0;
  const sharing = jobs.length === 1 ? jobs : jobs.map(whileOthersTrain);
  const passes = [true, false].map((recompute) =>
    sharedPassBytes(
      sharing.filter(({ settings }) => settings.recomputedLayers > 0 === recompute),
      passTokens,
    ),
  );
  // An evaluation never runs at the same time as a pass that trains.
  const evaluations = jobs.map((job) => (job.evaluation === null ? 0 : forwardBytes(job.settings, job.evaluation)));
  const checks = jobs.map(({ settings }) => mergedHeadBytes(settings));
  const pass = Math.max(...passes, ...evaluations, ...checks);
  const caches = jobs.map(({ settings }) => settings.sampleCacheBytes);
  // A job alone has no pass while it answers its prompts; concurrent jobs have.
  const beyond = jobs.length === 1 ? Math.max(pass, ...caches) : pass + sum(caches);
  return plans + weights * engine.weightSlack + (vectors + beyond) * engine.slack;
}

/** The job as it shares passes with concurrent jobs: it recomputes all layers, or none. */
function whileOthersTrain(job: MemoryNeeds): MemoryNeeds {
  const { recomputedLayers, architecture } = job.settings;
  return {
    ...job,
    settings: { ...job.settings, recomputedLayers: recomputedLayers > 0 ? architecture.layerCount : 0 },
  };
}

/** Bytes of the largest pass that some jobs share. All of them recompute layers, or none does: others do not share passes. */
function sharedPassBytes(jobs: readonly MemoryNeeds[], passTokens: number): number {
  const [first] = jobs;
  if (first === undefined) return 0;
  const most = (of: (load: LargestPass) => number) => Math.max(...jobs.map(({ load }) => of(load)));
  const inAll = (of: (load: LargestPass) => number) => sum(jobs.map(({ load }) => of(load)));
  const mostTokens = Math.max(
    most((load) => load.mostTokens),
    Math.min(
      passTokens,
      inAll((load) => load.mostTokens),
    ),
  );
  const mostRepeated = inAll((load) => load.mostRepeated ?? 0);
  const mostLabels = Math.min(
    mostTokens,
    inAll((load) => load.mostLabels),
  );
  const targets = jobs.flatMap(({ settings }) => settings.targets);
  const dropout = Math.max(...jobs.map(({ settings }) => settings.dropout));
  return passBytes(
    { ...first.settings, targets, dropout },
    { mostTokens, mostRepeated, mostLabels, longestRow: most((load) => load.longestRow) },
  );
}

/** Bytes that a job adds to a trainer with concurrent jobs on the same base model, whose adapters are on the same layers. */
export function addedMemory(job: MemoryNeeds, passTokens: number): number {
  const load = { ...job.load, mostTokens: passTokens, mostLabels: passTokens };
  const others = { load, settings: { ...job.settings, sampleCacheBytes: 0 }, evaluation: null };
  return jointMemory([others, job], passTokens) - jointMemory([others], passTokens);
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

/** The expected peak in bytes of the tensors of a forward and a backward pass. */
export function passBytes(settings: MemorySettings, load: LargestPass): number {
  const { architecture } = settings;
  const width = bytesPerNumber(settings.precision);
  const { layerCount, hiddenSize } = architecture;
  const layers = adaptedLayers(architecture, settings.targets);
  const ofLayers = Array.from({ length: layers }, (_, index) =>
    savedByLayer(settings, load, layerCount - layers + index, width),
  );
  const recomputed = Math.min(layers, settings.recomputedLayers);
  // The layers above one are done when its backward pass begins, and when it is recomputed.
  const transient = transientBytes(settings, width);
  const keptAt = ofLayers.map((own, index) => {
    const layer = layerCount - layers + index;
    const kept = index < recomputed ? own : sum(ofLayers.slice(recomputed, index + 1));
    return kept + Math.max(0, gradientsOfMixer(settings, layer, width) - transient);
  });
  const atATime = Math.max(0, ...keptAt);
  const saved = recomputed * 4 * hiddenSize + atATime;
  const repeated = repeatedBytes(settings, load, layers - recomputed, width);
  return load.mostTokens * (saved + layerInputBytes(settings, width)) + repeated + workingBytes(settings, load);
}

/**
 * Extra bytes of rows with a shared prompt, beyond one copy of the prompt. Each layer that is not recomputed keeps the tensors of
 * attention for its backward pass, and the input of its output projection. One layer at a time has gradients, counted as far as they
 * exceed the tensors of an MLP.
 */
function repeatedBytes(settings: MemorySettings, load: LargestPass, kept: number, width: number): number {
  const { mostTokens, mostRepeated = 0 } = load;
  if (mostRepeated === 0) return 0;
  const ofLayers = settings.architecture.layers.map((_, layer) => repeatedInMixer({ ...settings, layer, width }, load));
  const most = (of: 'kept' | 'transient') => Math.max(...ofLayers.map((layer) => layer[of]));
  const mean = sum(ofLayers.map((layer) => layer.kept)) / ofLayers.length;
  // The gradients by the rows, and the sums of them by tokens before and after they are put in order.
  const transient =
    (3 * mostTokens + mostRepeated) * most('transient') - 0.75 * mostTokens * mlpTransient({ ...settings, width });
  return Math.max(kept * mean, most('kept')) + Math.max(0, transient);
}

/** The expected peak in bytes of a forward pass that keeps nothing for a backward pass. */
function forwardBytes(settings: MemorySettings, load: LargestPass): number {
  const inputs = layerInputBytes({ ...settings, targets: [] }, bytesPerNumber(settings.precision));
  const perToken = 4 * settings.architecture.hiddenSize + inputs;
  return load.mostTokens * perToken + workingBytes({ ...settings, dropout: 0 }, load);
}

/** Bytes per token of the inputs of all layers, which a pass keeps. Where their projection is adapted, its output and gradients too. */
function layerInputBytes({ architecture, targets }: MemorySettings, width: number): number {
  const { layerInputs, layerCount, names } = architecture;
  if (layerInputs === null) return 0;
  const isLearned = targets.some(({ name }) => name === names.layerInputs!.projection);
  return layerCount * layerInputs.size * (width + (isLearned ? 4 + width : 0));
}

/** Bytes of tensors that live within one layer, or at the output head. */
function workingBytes(settings: MemorySettings, load: LargestPass): number {
  const { architecture, engine } = settings;
  const width = bytesPerNumber(settings.precision);
  const transient = load.mostTokens * transientBytes(settings, width) + settings.decodedBytes;
  const scores = engine.fused ? 0 : scoresBytes(architecture, load, width);
  const logits = Math.min(settings.logitsInChunk, load.mostLabels * architecture.vocabSize);
  const ofLogits = logits * bytesPerLogit(engine, settings.precision) + 4 * HEAD_VECTORS * headParameters(settings);
  const ofLayers = Math.max(transient, scores);
  // Logits are gone when the layers' backward pass begins.
  return engine.reuses ? Math.max(ofLayers, ofLogits) : ofLayers + ofLogits;
}

/** Trained parameters of the output head; 0 where it is not adapted. */
function headParameters({ architecture, targets }: MemorySettings): number {
  const heads = targets.filter(({ name }) => name === architecture.names.head);
  return Math.max(0, ...heads.map(({ rank, in_features, out_features }) => rank * (in_features + out_features)));
}

/**
 * Bytes of the check of a finished adapter: the widest layer that it adapts is merged. Only the output head is wider than the tensors of
 * a pass.
 */
function mergedHeadBytes(settings: MemorySettings): number {
  if (headParameters(settings) === 0) return 0;
  const { vocabSize, hiddenSize } = settings.architecture;
  return vocabSize * hiddenSize * (settings.engine.fused ? 4 : 8);
}

export function bytesPerNumber(precision: Precision): number {
  return precision === 'bfloat16' ? 2 : 4;
}

/** Bytes per token that a layer keeps between its forward and its backward pass. */
function savedByLayer(settings: MemorySettings, load: LargestPass, layer: number, width: number): number {
  const { architecture } = settings;
  const { hiddenSize, names } = architecture;
  const branchNorms = [names.attentionBranchNorm, names.mlpBranchNorm].filter((name) => name !== null).length;
  // The residual stream before and after attention is float32, and so is what norms of branches save.
  const exact = (2 + branchNorms) * hiddenSize;
  const ofMixer = savedByMixer({ ...settings, layer, width }, load);
  return ofMixer + savedByLayerInput(architecture, width) + 4 * exact + savedByMlp({ ...settings, width }, layer);
}

/** Bytes per token that the block of the layer's input keeps: the stream, the input of its norm, gate and input. */
function savedByLayerInput({ hiddenSize, layerInputs }: DecoderArchitecture, width: number): number {
  return layerInputs === null ? 0 : 4 * 2 * hiddenSize + width * 2 * layerInputs.size;
}

/** Bytes per token of tensors that live within one layer's backward pass. */
function transientBytes(settings: MemorySettings, width: number): number {
  const { architecture, targets, dropout } = settings;
  const { hiddenSize, layerCount, layerInputs } = architecture;
  // No layer keeps a mask. It is drawn in float32, compared, rounded and scaled, for one layer at a time.
  const widest = Math.max(...targets.map(({ in_features: inFeatures }) => inFeatures));
  const drawn = dropout > 0 ? (4 + 1 + 2 * width) * widest : 0;
  const ofMixers = mixerTransient({ ...settings, width });
  // Before the layers: the projection, the embeddings, their sum and what is rounded of it.
  const ofInputs = layerInputs === null ? 0 : layerCount * layerInputs.size * (3 * 4 + 2 * width);
  return Math.max(mlpTransient({ ...settings, width }), drawn, ofMixers, ofInputs) + (4 + width) * 2 * hiddenSize;
}

/** Bytes per token of the gradients within the mixer of one layer, less the tensors of its MLP, which are free by then. */
function gradientsOfMixer(settings: MemorySettings, layer: number, width: number): number {
  const gradients = mixerGradients({ ...settings, layer, width }) - savedByMlp({ ...settings, width }, layer);
  return gradients + (4 + width) * 2 * settings.architecture.hiddenSize;
}

/**
 * Bytes of the attention of one layer's backward pass in TensorFlow's own ops: three float32 numbers of each score of a
 * block.
 */
function scoresBytes(architecture: DecoderArchitecture, load: LargestPass, width: number): number {
  const { mostTokens, mostRepeated = 0, longestRow } = load;
  const tokens = mostTokens + mostRepeated;
  const { headCount, layerCount } = architecture;
  const widths = Array.from({ length: layerCount }, (_, layer) => {
    const { keyValueHeadCount, headDim } = headsOf(architecture, layer);
    return (headCount + 2 * keyValueHeadCount) * headDim;
  });
  const scores = Math.min(SCORES_PER_BLOCK, headCount * tokens * longestRow);
  return 12 * scores + 2 * width * tokens * Math.max(...widths);
}
