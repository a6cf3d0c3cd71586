import { ProductError } from '@lorasmith/contracts';
import {
  type Architecture,
  type DecoderArchitecture,
  intermediateSizeOf,
  mixerRoundings,
  mlpRoundings,
} from '@lorasmith/model-folder';
import type { DType, FloatDType } from '@lorasmith/tensor';

/** Sizes of all updates merged so far, and of the rounding errors. */
export interface MergeRounding {
  /** Σ of the squared differences between merged weights and what they are before they are rounded. */
  errorSquares: number;
  /** Σ of the squared updates. */
  updateSquares: number;
  /** Σ of the squared weights that they are added to. */
  baseSquares: number;
}

/** The most that rounding to nearest changes a number, as a share of it, at the upper end of a binade. */
const ROUNDING = { float32: 2 ** -25, float16: 2 ** -12, bfloat16: 2 ** -9 };

/** Roundings of an adapted layer's output: its A, its scaled B, what each of the three products gives, and the sum. */
const ROUNDINGS_OF_A_LAYER = 6;

/** The factor that allows for errors that depend on each other; those of independent ones add up like a random walk. */
export const DEPENDENT_ERRORS = 4;

/**
 * The change of an adapted layer's outputs by its roundings, as a share of their size: errors of n roundings, each at
 * most u of its number and independent, add up to u √n.
 *
 * @param dtype - That the model computes in.
 */
export function layerRounding(dtype: FloatDType, inFeatures: number): number {
  return computingRounding([dtype], inFeatures) * Math.sqrt(ROUNDINGS_OF_A_LAYER);
}

/** The change of a layer's outputs by rounding its weights, as a share of their size. @param dtypes - Of the weights, also as they are computed with. */
export function weightRounding(dtypes: readonly DType[]): number {
  return Math.max(...dtypes.map((dtype) => ROUNDING[dtype as keyof typeof ROUNDING]));
}

/**
 * The bound of the distance of an adapted layer's outputs from those of the merged one before it is rounded, in the Frobenius
 * norm.
 *
 * @param dtype - That the model computes in.
 * @param size - Of the outputs, base and update each by its own.
 */
export function layerBound(dtype: FloatDType, inFeatures: number, size: number): number {
  return DEPENDENT_ERRORS * layerRounding(dtype, inFeatures) * size;
}

/**
 * The bound of the distance of the log-probabilities of two computations of the same numbers, as a root mean square, when each
 * intermediate result was rounded in another way: as for a layer, with the roundings of all layers. Twice, as it is the
 * mean of many numbers that is compared. Models that amplify errors are beyond it: see measuredBound.
 *
 * @param dtypes - Of computing and of the weights.
 * @param size - Of the logits: the spread of the base's, and how far the adapter moves them.
 */
export function roundingBound(architecture: Architecture, dtypes: readonly DType[], size: number): number {
  return 2 * computingRounding(dtypes, widestInput(architecture)) * Math.sqrt(roundings(architecture)) * size;
}

/**
 * u of the coarsest dtype in play. In float32 the sums over the inputs of a layer are rounded too, about √inputs u
 * together; in bfloat16 the sums are float32's and do not count.
 */
function computingRounding(dtypes: readonly DType[], inFeatures: number): number {
  return Math.max(ROUNDING.float32 * Math.sqrt(inFeatures), weightRounding(dtypes));
}

/**
 * The bound of the distance of the merged model from base and adapter. In addition to the rounding on the way:
 *
 * - Merging rounds the weights. Where an update is smaller than half the distance between two numbers of the dtype, it is
 *   lost; that is at most the share ‖rounding errors‖ / ‖updates‖ (in the Frobenius norm, over all layers) of what the
 *   adapter does, since errors are spread over all directions of a matrix and an update over few.
 * - An adapter that is large compared with its base enlarges errors: queries and keys grow by 1 + ‖updates‖ / ‖weights‖, and the
 *   scores of attention by its square. Allowed is what that makes of the rounding, but no more than half of what the
 *   adapter does.
 *
 * @param rounding - See {@link roundingBound}.
 * @param adapterDifference - Of base and adapter from the base alone.
 */
export function mergedBound(
  rounding: number,
  { errorSquares, updateSquares, baseSquares }: MergeRounding,
  adapterDifference: number,
): number {
  if (updateSquares === 0) return rounding;
  const lost = Math.min(1, Math.sqrt(errorSquares / updateSquares)) * adapterDifference;
  const enlarged = rounding * ((1 + Math.sqrt(updateSquares / baseSquares)) ** 2 - 1);
  return rounding + lost + Math.min(enlarged, adapterDifference / 2);
}

function roundings(architecture: Architecture): number {
  if (architecture.kind === 'decoder') return roundingsPerLayer(architecture) * architecture.layerCount;
  // Input, weight, output and activated of each layer.
  return 4 * architecture.layers.length;
}

function widestInput(architecture: Architecture): number {
  if (architecture.kind === 'decoder') {
    return Math.max(architecture.hiddenSize, intermediateSizeOf(architecture, architecture.layerCount - 1));
  }
  return Math.max(...architecture.layers.map(({ inFeatures }) => inFeatures));
}

/**
 * Tensors that are rounded to bfloat16 on the way through a layer: two norms, qkv, query and key rotated, attention weights
 * and output, output projection, gate and up, activated, down; and the weights they meet. Where a family has them: query
 * and key normed, values normed, and the norms of what is added to the stream; of the layer's input itself, its gate, their
 * product, what that adds to the stream, and the norm of it; and what the kinds of mixers and MLPs round besides.
 */
export function roundingsPerLayer(architecture: DecoderArchitecture): number {
  const { names, attention, layerInputs } = architecture;
  const branchNorms = [names.attentionBranchNorm, names.mlpBranchNorm].filter((name) => name !== null).length;
  const ofHeads = (names.queryNorm === null ? 0 : 2) + (attention.valueNorm === null ? 0 : 1);
  const ofGate = attention.outputGate === null ? 0 : 1;
  return (
    16 +
    ofHeads +
    branchNorms +
    mixerRoundings(architecture) +
    mlpRoundings(architecture) +
    ofGate +
    (layerInputs === null ? 0 : 5)
  );
}

/** The adapter that would be published differs from the trained one. */
export function checkFailed(message: string): ProductError {
  return new ProductError('adapter_check_failed', `${message} The adapter was not published.`);
}

/**
 * @param difference - Of the log-probabilities, as a root mean square.
 * @throws ProductError adapter_check_failed when it is above the bound
 */
export function checkDifference(how: string, difference: number, bound: number): void {
  // Not `>`: NaN must fail.
  if (difference <= bound) return;
  const differ = `differ by ${difference.toPrecision(3)} from those of the trained one; at most ${bound.toPrecision(3)} comes from rounding`;
  throw checkFailed(`The log-probabilities of the adapter ${how} ${differ}.`);
}
