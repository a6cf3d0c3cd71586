import {
  type DecoderArchitecture,
  type DenseMlp,
  type Experts,
  lastPartOf,
  type Mlp,
  type MlpOf,
  type ParallelMlp,
  type SparseMlp,
} from '@lorasmith/model-folder';
import { layerIndexOf } from '../targets.js';
import type { MixerContext } from './mixers.js';

/** The job that the memory of an MLP depends on. */
type MlpContext = Omit<MixerContext, 'layer'>;

/** A kind of MLP, as estimates need it. Bytes are per token. */
interface MlpEstimate<Own extends Mlp> {
  /** Bytes kept between forward and backward pass. @param layer the index of its layer */
  saved(own: Own, context: MlpContext, layer: number): number;
  /** Bytes of tensors that live within its backward pass. */
  passing(own: Own, context: MlpContext): number;
  /** Multiply-adds of a token, without those of linear layers. */
  operations(own: Own, architecture: DecoderArchitecture): number;
  /** Bytes that element-wise ops read and write, forward and backward, without those of the norm of its input. */
  passed(own: Own, architecture: DecoderArchitecture): number;
  /** The experts that a token passes. */
  expertsPerToken(own: Own): number;
}

/** The numbers of gate and up, or of up alone. */
function gateUpWidth({ mlp }: DecoderArchitecture, intermediateSize: number): number {
  return mlp.gated ? 2 * intermediateSize : intermediateSize;
}

/** Bytes that the passes between the products of an MLP read and write for each of its numbers. */
function passedPerNumber({ mlp }: DecoderArchitecture): number {
  return mlp.gated ? 18 : 10;
}

/** Bytes of tensors that live within the backward pass of an MLP. */
function densePassing(intermediateSize: number, { architecture, engine, width }: MlpContext): number {
  const gateUp = gateUpWidth(architecture, intermediateSize);
  // Gate, up, their activation, its slope and their gradients are float32.
  const copies = engine.fused ? 0 : 4 * (gateUp + 6 * intermediateSize);
  return width * (gateUp + intermediateSize) + copies;
}

const denseEstimate: MlpEstimate<DenseMlp> = {
  saved: (own, { architecture, width }) => width * gateUpWidth(architecture, widthOf(own, architecture)),

  passing: (own, context) => densePassing(widthOf(own, context.architecture), context),

  operations: () => 0,

  passed: (own, architecture) => passedPerNumber(architecture) * widthOf(own, architecture),

  expertsPerToken: () => 0,
};

function widthOf(own: DenseMlp, { intermediateSize }: DecoderArchitecture): number {
  return own.intermediateSize ?? intermediateSize;
}

const sparseEstimate: MlpEstimate<SparseMlp> = {
  saved({ experts }, context, layer) {
    const { shared } = experts;
    const { architecture, width } = context;
    const ofShared =
      shared === null ? 0 : width * (gateUpWidth(architecture, shared.intermediateSize) + architecture.hiddenSize) + 4;
    return savedByExperts(experts, context, layer) + ofShared;
  },

  passing({ experts }, context) {
    const { shared } = experts;
    const ofExperts = passingInExperts(experts, context, shared === null);
    return Math.max(ofExperts, shared === null ? 0 : densePassing(shared.intermediateSize, context));
  },

  /** No adapter acts at the router, so it is not among the linear layers. */
  operations: ({ experts }, architecture) =>
    experts.count * architecture.hiddenSize + expertOperations(experts, architecture),

  passed({ experts }, architecture) {
    const { shared } = experts;
    const ofShared =
      shared === null ? 0 : passedPerNumber(architecture) * shared.intermediateSize + 24 * architecture.hiddenSize;
    return passedByExperts(experts, architecture) + ofShared;
  },

  expertsPerToken: ({ experts }) => experts.perToken,
};

/** Numbers of each row of experts: its token, its position, its expert and its weight. */
const ROUTING_NUMBERS = 4;

/** Bytes of weighting an activated number, forward and backward: it is cast to float32, multiplied and rounded. */
const WEIGHTING_BYTES = 50;

/** Bytes that experts keep for their backward pass: the rows of those that a token passes, and their indices. */
function savedByExperts(
  { count, perToken, intermediateSize, renormalized }: Experts,
  { architecture, targets, width }: MlpContext,
  layer: number,
): number {
  const ranks = targets.map(({ name, experts, rank }) =>
    experts === undefined || layerIndexOf(name) !== layer ? 0 : rank,
  );
  const ofRanks = ranks.reduce((sum, rank) => sum + rank, 0);
  const ofRows = perToken * (width * (gateUpWidth(architecture, intermediateSize) + ofRanks) + 4 * ROUTING_NUMBERS);
  return ofRows + (renormalized ? 0 : 4 * count);
}

/**
 * Bytes within the backward pass of the experts that a token passes.
 * @param isAlone true without a shared expert or an MLP next to them
 */
function passingInExperts({ perToken, intermediateSize }: Experts, context: MlpContext, isAlone: boolean): number {
  const { architecture, targets, width } = context;
  const { hiddenSize } = architecture;
  const gateUp = gateUpWidth(architecture, intermediateSize);
  // The product of the activation with the gradient by it is made in float32.
  const ofWeights = 2 * width * intermediateSize + 4 * (width === 4 ? 1 : 3) * intermediateSize;
  // The third part is for what adapters keep of each token, which is little.
  const ofProduct = width * (gateUp + hiddenSize + intermediateSize);
  // An adapter of a parameter reads its input again.
  const learns = (parameter: string) =>
    targets.some(({ name, experts }) => experts !== undefined && lastPartOf(name) === parameter);
  const ofGateUp = learns('gate_up_proj') ? width * (gateUp + 2 * hiddenSize) : 0;
  const ofDown = learns('down_proj') ? width * hiddenSize + ofWeights : 0;
  const ofUnit = densePassing(intermediateSize, context);
  // The gradient through the router is float32; those through a shared expert or an MLP are in memory at the same time.
  const ofTokens = (4 + (isAlone ? 0 : 2 * width)) * hiddenSize;
  return perToken * Math.max(ofUnit, ofWeights, ofProduct, ofGateUp, ofDown) + ofTokens;
}

/** Multiply-adds of a token in the experts that it passes. */
function expertOperations({ perToken, intermediateSize }: Experts, { hiddenSize }: DecoderArchitecture): number {
  return perToken * 3 * intermediateSize * hiddenSize;
}

/** Bytes that experts gather, weight and sum of a token. */
function passedByExperts({ perToken, intermediateSize }: Experts, architecture: DecoderArchitecture): number {
  const perNumber = passedPerNumber(architecture) + WEIGHTING_BYTES;
  return perToken * (perNumber * intermediateSize + 12 * architecture.hiddenSize);
}

/** The MLP in parallel with the experts. */
function mlpOf({ intermediateSize }: ParallelMlp): DenseMlp {
  return { kind: 'dense', intermediateSize };
}

const parallelEstimate: MlpEstimate<ParallelMlp> = {
  /** The bytes of experts, of the MLP, and of the norms of what both give. */
  saved(own, context, layer) {
    const ofNorms = 2 * (context.width * context.architecture.hiddenSize + 4);
    return savedByExperts(own.experts, context, layer) + denseEstimate.saved(mlpOf(own), context, layer) + ofNorms;
  },

  passing: (own, context) =>
    Math.max(denseEstimate.passing(mlpOf(own), context), passingInExperts(own.experts, context, false)),

  operations: ({ experts }, architecture) => expertOperations(experts, architecture),

  /** MLP and experts are each normed, and read the stream times their own factors. */
  passed: (own, architecture) =>
    passedByExperts(own.experts, architecture) +
    denseEstimate.passed(mlpOf(own), architecture) +
    96 * architecture.hiddenSize,

  expertsPerToken: ({ experts }) => experts.perToken,
};

/** The kinds of MLPs. To add one, describe it above and add a line here. */
const ESTIMATES: { readonly [Kind in Mlp['kind']]: MlpEstimate<MlpOf<Kind>> } = {
  dense: denseEstimate,
  sparse: sparseEstimate,
  parallel: parallelEstimate,
};

function estimateOf(own: Mlp): MlpEstimate<Mlp> {
  return ESTIMATES[own.kind] as MlpEstimate<Mlp>;
}

/** See {@link MlpEstimate.saved}. */
export function savedByMlp(context: MlpContext, layer: number): number {
  const own = context.architecture.layers[layer]!.mlp;
  return estimateOf(own).saved(own, context, layer);
}

/** See {@link MlpEstimate.passing}: of all layers the most, and never less than of an MLP of the usual width, also where all are sparse. */
export function mlpPassing(context: MlpContext): number {
  const { layers, intermediateSize } = context.architecture;
  // Layers that are alike share their settings.
  const different = [...new Set(layers.map(({ mlp }) => mlp))];
  const ofLayers = different.map((own) => estimateOf(own).passing(own, context));
  return Math.max(densePassing(intermediateSize, context), ...ofLayers);
}

/** See {@link MlpEstimate.operations}. */
export function mlpOperations(architecture: DecoderArchitecture, layer: number): number {
  const own = architecture.layers[layer]!.mlp;
  return estimateOf(own).operations(own, architecture);
}

/** See {@link MlpEstimate.passed}: of all layers the mean. */
export function passedByMlp(architecture: DecoderArchitecture): number {
  const ofLayers = architecture.layers.map(({ mlp: own }) => estimateOf(own).passed(own, architecture));
  return ofLayers.reduce((sum, bytes) => sum + bytes, 0) / ofLayers.length;
}

/** See {@link MlpEstimate.expertsPerToken}. */
export function expertsPerToken({ layers }: DecoderArchitecture, layer: number): number {
  const own = layers[layer]!.mlp;
  return estimateOf(own).expertsPerToken(own);
}
