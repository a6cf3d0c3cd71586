import type { AdaptableModule, MachineRates } from '@lorasmith/contracts';
import { type DecoderArchitecture, layerLinears, linearGroups } from '@lorasmith/model-folder';
import { layerIndexOf, type Target, trainedNumbers } from '../targets.js';
import { adaptedLayers, linearWork } from './adapted-layers.js';
import type { BatchLoad } from './batch-load.js';
import { mixerOperations } from './layer-kinds/mixer-estimates.js';
import { expertsPerToken, mlpOperations, mlpTraffic } from './layer-kinds/mlp-estimates.js';
import type { WeightTraffic } from './weight-memory.js';

export interface DecoderWork {
  architecture: DecoderArchitecture;
  modules: readonly AdaptableModule[];
  targets: readonly Target[];
  /** The count of recomputed layers, from the lowest adapted one on. */
  recomputedLayers: number;
  /** True for an evaluation: no recomputation, no gradients. @defaultValue false */
  onlyForward?: boolean;
  /** @defaultValue one op of a processor */
  adapters?: AdapterPasses;
}

/**
 * The way in which adapters pass over the input and the output of a group of linear layers: in one op of a processor, in products of
 * their own on a GPU, or joined to the frozen product, which the CUDA engine does for one adapter at weights that are padded.
 */
export type AdapterPasses = 'one-op' | 'separate' | 'joint';

/** The sizes of the passes of a step, together, which time depends on. */
export type StepLoad = Pick<
  BatchLoad,
  'tokensPerStep' | 'repeatedPerStep' | 'labelsPerStep' | 'squaresPerStep' | 'microBatchesPerStep'
>;

/** A backward pass computes five products of a row's scores; the forward pass computes two. */
export const ATTENTION_BACKWARD = 2.5;

/** The work of one optimizer step, in 10⁹ operations and 10⁹ bytes; `states`: of linear attention. */
export function stepWork(
  work: DecoderWork,
  load: StepLoad,
): { products: number; attention: number; states: number; traffic: number } {
  const { architecture } = work;
  // In the last layer, what follows attention is computed only for tokens that have a label, and then the head.
  const last = layerLinears(architecture, architecture.layerCount - 1);
  const readsFirst = new Set([...last.mixer.inputs, ...last.mixer.between]);
  const others = linearGroups(architecture, architecture.layerCount - 1)
    .flat()
    .filter((layer) => !readsFirst.has(layer));
  const afterAttention = new Set(others.map(({ name }) => name));
  afterAttention.add(architecture.names.head);
  const tokensOfMlp = (layer: number) =>
    layer === architecture.layerCount - 1 ? load.labelsPerStep : load.tokensPerStep;
  const tokensOf = ({ name, experts }: AdaptableModule) => {
    if (experts !== undefined)
      return expertsPerToken(architecture, layerIndexOf(name)!) * tokensOfMlp(layerIndexOf(name)!);
    return afterAttention.has(name) ? load.labelsPerStep : load.tokensPerStep;
  };
  const readsLayer = ({ name }: { name: string }) =>
    name === architecture.names.layerInputs?.projection ||
    architecture.names.queryKeyValue.some((path) => name.endsWith(`.${path}`));
  const { forwards, backwards, recomputed } = layerPasses(work);
  const lowest = architecture.layerCount - backwards;
  const isRecomputed = (layer: number) => layer >= lowest && layer < lowest + recomputed;
  const { onlyForward = false } = work;
  const linear = linearWork(work.modules, work.targets, { tokensOf, readsLayer, isRecomputed, onlyForward });
  const head = (backwards > 0 ? 2 : 1) * architecture.vocabSize * architecture.hiddenSize;
  const done = { scores: 0, states: 0, experts: 0 };
  for (let layer = 0; layer < architecture.layerCount; layer++) {
    const times = 1 + (isRecomputed(layer) ? 1 : 0) + (layer >= lowest ? ATTENTION_BACKWARD : 0);
    const { scores, states } = mixerOperations(architecture, layer, load.squaresPerStep);
    done.scores += times * scores;
    done.states += times * states * (load.tokensPerStep + (load.repeatedPerStep ?? 0));
    // Frozen, so that they have no gradients but those by their inputs.
    const products = 1 + (isRecomputed(layer) ? 1 : 0) + (layer >= lowest ? 1 : 0);
    done.experts += products * mlpOperations(architecture, layer) * tokensOfMlp(layer);
  }
  return {
    products:
      (2 *
        (linear.forward +
          linear.again +
          linear.backward +
          linear.adapters +
          done.experts +
          head * load.labelsPerStep)) /
      1e9,
    attention: (2 * 2 * done.scores) / 1e9,
    states: (2 * 2 * done.states) / 1e9,
    traffic:
      (load.tokensPerStep * ((meanLayerTraffic(architecture) * (forwards + backwards)) / 2 + adapterTraffic(work)) +
        (onlyForward ? 0 : OPTIMIZER_BYTES * trainedNumbers(work.targets))) /
      1e9,
  };
}

/** The layers of a step's forward pass, with recomputed ones counted twice, and of its backward pass: from the lowest adapted one on. */
function layerPasses({ architecture, targets, recomputedLayers, onlyForward = false }: DecoderWork): {
  forwards: number;
  backwards: number;
  recomputed: number;
} {
  const backwards = onlyForward ? 0 : adaptedLayers(architecture, targets);
  const recomputed = Math.min(backwards, recomputedLayers);
  return { forwards: architecture.layerCount + recomputed, backwards, recomputed };
}

/**
 * Bytes per token and layer that element-wise ops read and write, forward and backward, as the mean of all layers. They are the norms
 * with the residual stream, and the activation of the MLP or the rows that experts gather, weight and sum. Some families add the gated
 * input of the layer with its norm, and the factor of the stream.
 */
function meanLayerTraffic(architecture: DecoderArchitecture): number {
  const { hiddenSize, layerInputs, names } = architecture;
  const ofInput = layerInputs === null ? 0 : 36 * hiddenSize + 18 * layerInputs.size;
  const ofScale = names.layerScale === null ? 0 : 24 * hiddenSize;
  return 72 * hiddenSize + mlpTraffic(architecture) + ofInput + ofScale;
}

/** Bytes that an optimizer step reads and writes for each trained parameter: gradients, moments and parameters in float32. */
const OPTIMIZER_BYTES = 48;

/**
 * Numbers per token that an adapter reads and writes at a group of linear layers. Forward it reads the input, and adds to the output.
 * Backward it reads the gradient by the output, on a GPU twice, and the input, and adds to the gradient by the input. A joint adapter
 * copies the narrower of input and output with its low-rank product, or adds to it. It reads the wider one once, for the gradient of A or
 * B.
 */
function adapterTrafficAtGroup(
  inFeatures: number,
  outFeatures: number,
  { adapters = 'one-op', onlyForward = false }: Pick<DecoderWork, 'adapters' | 'onlyForward'>,
): number {
  const forward = inFeatures + 2 * outFeatures;
  switch (adapters) {
    case 'one-op':
      return onlyForward ? forward : 4 * inFeatures + 3 * outFeatures;
    case 'separate':
      return onlyForward ? forward : 4 * inFeatures + 4 * outFeatures;
    case 'joint': {
      const [narrow, wide] = [Math.min(inFeatures, outFeatures), Math.max(inFeatures, outFeatures)];
      return onlyForward ? 2 * narrow : 5 * narrow + wide;
    }
  }
}

/**
 * Bytes per token that all adapters read and write in the computing type of two bytes. The products of so few columns take as long as
 * this.
 */
export function adapterTraffic(work: Omit<DecoderWork, 'modules' | 'recomputedLayers'>): number {
  const { architecture, targets } = work;
  const adapted = new Set(targets.map(({ name }) => name));
  let numbers = 0;
  for (let layer = 0; layer < architecture.layerCount; layer++) {
    for (const group of linearGroups(architecture, layer)) {
      const own = group.filter(({ name }) => adapted.has(name));
      if (own.length === 0) continue;
      const outFeatures = own.reduce((sum, module) => sum + module.outFeatures, 0);
      numbers += adapterTrafficAtGroup(own[0]!.inFeatures, outFeatures, work);
    }
  }
  const ofExpert = work.adapters === 'joint' ? { ...work, adapters: 'separate' as const } : work;
  for (const { name, experts, in_features, out_features } of targets) {
    if (experts === undefined) continue;
    numbers +=
      expertsPerToken(architecture, layerIndexOf(name)!) * adapterTrafficAtGroup(in_features, out_features, ofExpert);
  }
  return 2 * numbers;
}

/** Calls of each layer. The first pass of a job allocates memory that later ones reuse, which takes about as long. */
const FIRST_PASS_CALLS = 3;

/** Seconds that the first pass of a job takes beyond those of a later one. */
export function firstPassSeconds({ layerCount }: Pick<DecoderArchitecture, 'layerCount'>, rates: MachineRates): number {
  return (FIRST_PASS_CALLS * layerCount * rates.layer_overhead_ms) / 1e3;
}

/** The frozen weights of a job, and the logits that it computes at a time. */
export interface WeightWork {
  weights: WeightTraffic;
  logitsInChunk: number;
}

/** 10⁹ bytes of weights that the passes of a step read: the layers once for each micro-batch, the head for each chunk of logits. */
export function weightGigabytes(work: DecoderWork & WeightWork, load: StepLoad): number {
  const { weights, logitsInChunk, architecture } = work;
  const { forwards, backwards } = layerPasses(work);
  const { microBatchesPerStep, labelsPerStep } = load;
  const chunks = Math.max(microBatchesPerStep, (labelsPerStep * architecture.vocabSize) / logitsInChunk);
  const ofLayers = microBatchesPerStep * ((forwards + backwards) / architecture.layerCount) * weights.ofLayers;
  return (ofLayers + chunks * (backwards > 0 ? 2 : 1) * weights.ofHead) / 1e9;
}

/**
 * Seconds of an optimizer step on a machine with these rates.
 * @param stateGflops the rate of linear attention
 */
export function secondsPerStep(
  work: DecoderWork & WeightWork,
  load: StepLoad,
  rates: MachineRates,
  stateGflops: number,
): number {
  const { products, attention, states, traffic } = stepWork(work, load);
  const { forwards, backwards } = layerPasses(work);
  return (
    products / rates.matmul_gflops +
    attention / rates.attention_gflops +
    states / stateGflops +
    traffic / rates.pass_gbytes +
    weightGigabytes(work, load) / rates.weight_gbytes +
    (((forwards + backwards) / 2) * load.microBatchesPerStep * rates.layer_overhead_ms) / 1e3
  );
}
