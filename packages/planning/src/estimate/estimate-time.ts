import type { AdaptableModule, MachineRates } from '@lorasmith/contracts';
import {
  type DecoderArchitecture,
  hasLinearAttention,
  headsOf,
  intermediateSizeOf,
  type LinearAttention,
  layerLinears,
} from '@lorasmith/model-folder';
import type { Target } from '../target-ranks.js';
import { adaptedLayers, linearWork } from './adapted-layers.js';
import type { BatchLoad } from './batch-load.js';

export interface DecoderWork {
  architecture: DecoderArchitecture;
  modules: readonly AdaptableModule[];
  targets: readonly Target[];
  /** Number of layers that are computed again, from the lowest adapted one on. */
  recomputedLayers: number;
}

type Load = Pick<BatchLoad, 'tokensPerStep' | 'labelsPerStep' | 'squaresPerStep' | 'microBatchesPerStep'>;

/** A backward pass computes five products of a row's scores; the forward pass computes two. */
const ATTENTION_BACKWARD = 2.5;

/** The work of one optimizer step, in 10⁹ operations and 10⁹ bytes; `states`: of linear attention. */
export function stepWork(
  work: DecoderWork,
  load: Load,
): { products: number; attention: number; states: number; passes: number } {
  const { architecture } = work;
  // In the last layer, what follows attention is computed only for tokens that have a label, and then the head.
  const last = layerLinears(architecture, architecture.layerCount - 1);
  const ofInput = last.layerInput === null ? [] : [last.layerInput.gate, last.layerInput.output];
  const afterAttention = new Set([last.attentionOutput, ...last.gateUp, last.down, ...ofInput].map(({ name }) => name));
  afterAttention.add(architecture.names.head);
  const tokensOf = ({ name }: { name: string }) => (afterAttention.has(name) ? load.labelsPerStep : load.tokensPerStep);
  const readsLayer = ({ name }: { name: string }) =>
    name === architecture.names.layerInputs?.projection ||
    architecture.names.queryKeyValue.some((path) => name.endsWith(`.${path}`));
  const { forwards, backwards, recomputed } = layerPasses(work);
  const lowest = architecture.layerCount - backwards;
  const isRecomputed = (layer: number) => layer >= lowest && layer < lowest + recomputed;
  const linear = linearWork(work.modules, work.targets, { tokensOf, readsLayer, isRecomputed });
  const head = (backwards > 0 ? 2 : 1) * architecture.vocabSize * architecture.hiddenSize;
  // A causal row of n tokens has n² / 2 scores in each head; a score takes headDim multiply-adds, its use as many.
  const scoresOfLayer = (layer: number) =>
    (load.squaresPerStep / 2) * architecture.headCount * headsOf(architecture, layer).headDim;
  const done = { scores: 0, states: 0 };
  for (let layer = 0; layer < architecture.layerCount; layer++) {
    const times = 1 + (isRecomputed(layer) ? 1 : 0) + (layer >= lowest ? ATTENTION_BACKWARD : 0);
    if (hasLinearAttention(architecture, layer)) {
      done.states += times * stateWork(architecture.linearAttention!) * load.tokensPerStep;
    } else {
      done.scores += times * scoresOfLayer(layer);
    }
  }
  return {
    products:
      (2 * (linear.forward + linear.again + linear.backward + linear.adapters + head * load.labelsPerStep)) / 1e9,
    attention: (2 * 2 * done.scores) / 1e9,
    states: (2 * 2 * done.states) / 1e9,
    passes: (meanPassBytes(architecture) * load.tokensPerStep * (forwards + backwards)) / 2 / 1e9,
  };
}

/** Multiply-adds of linear attention for a token, in the unit of scores: its state is read twice and changed twice. */
function stateWork({ valueHeadCount, keyHeadDim, valueHeadDim }: LinearAttention): number {
  return 2 * valueHeadCount * keyHeadDim * valueHeadDim;
}

/** The layers that a step goes through forward, those computed again twice, and backward: from the lowest adapted one on. */
function layerPasses({ architecture, targets, recomputedLayers }: DecoderWork): {
  forwards: number;
  backwards: number;
  recomputed: number;
} {
  const backwards = adaptedLayers(architecture, targets);
  const recomputed = Math.min(backwards, recomputedLayers);
  return { forwards: architecture.layerCount + recomputed, backwards, recomputed };
}

/**
 * Bytes that the passes between products read and write per token in a layer, forward and backward, of all layers the mean: norms
 * with the residual stream, the gated MLP, the additions of adapters; where there are, the gated input of the layer with its norm,
 * and the factor of the stream.
 */
function meanPassBytes(architecture: DecoderArchitecture): number {
  const { hiddenSize, layerCount, mlp, layerInputs, names } = architecture;
  const wide = Array.from({ length: layerCount }, (_, layer) => intermediateSizeOf(architecture, layer));
  const intermediate = wide.reduce((sum, size) => sum + size, 0) / layerCount;
  const ofInput = layerInputs === null ? 0 : 36 * hiddenSize + 18 * layerInputs.size;
  const ofScale = names.layerScale === null ? 0 : 24 * hiddenSize;
  return 72 * hiddenSize + (mlp.gated ? 18 : 10) * intermediate + ofInput + ofScale;
}

/** The first pass of a job takes memory that later ones have: about as long as so many calls of each layer. */
const FIRST_PASS_CALLS = 3;

/** Seconds that the first pass of a job takes beyond those of a later one. */
export function firstPassSeconds({ layerCount }: Pick<DecoderArchitecture, 'layerCount'>, rates: MachineRates): number {
  return (FIRST_PASS_CALLS * layerCount * rates.layer_overhead_ms) / 1e3;
}

/** The time of a forward pass, as a share of an optimizer step with the same tokens: a layer takes about as long backward. */
export function forwardShare(work: DecoderWork): number {
  const { forwards, backwards } = layerPasses(work);
  return work.architecture.layerCount / (forwards + backwards);
}

/** The base model in memory. */
export interface WeightTraffic {
  weightBytes: number;
  /** Whether each product writes the weights into panels before it multiplies them, as on a processor. */
  arePacked: boolean;
}

/**
 * Seconds of an optimizer step on a machine with these rates. Each pass over a micro-batch reads the weights, and packs them: the rate of
 * products is that of many rows, which share this.
 * @param stateGflops the rate of linear attention
 */
export function secondsPerStep(
  work: DecoderWork & WeightTraffic,
  load: Load,
  rates: MachineRates,
  stateGflops: number,
): number {
  const { products, attention, states, passes } = stepWork(work, load);
  const { forwards, backwards } = layerPasses(work);
  const { layerCount } = work.architecture;
  const weightPasses = ((forwards + backwards) / layerCount) * (work.arePacked ? 2 : 1) * load.microBatchesPerStep;
  return (
    products / rates.matmul_gflops +
    attention / rates.attention_gflops +
    states / stateGflops +
    (passes + (weightPasses * work.weightBytes) / 1e9) / rates.pass_gbytes +
    (((forwards + backwards) / 2) * load.microBatchesPerStep * rates.layer_overhead_ms) / 1e3
  );
}
