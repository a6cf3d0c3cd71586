import type { Architecture } from '@lorasmith/model-folder';
import { type DType, engine } from '@lorasmith/tensor';
import { roundingsPerLayer } from '../check-reference/tolerances.js';
import type { MergeRounding } from './merged-projection.js';

/** How much rounding to nearest changes a number, as a share of it, at most at the upper end of a binade. */
const ROUNDING: Partial<Record<DType, number>> = { float32: 2 ** -25, float16: 2 ** -12, bfloat16: 2 ** -9 };
/** TensorFlow lets a GPU multiply float32 numbers as TF32, which has 11 significant bits. */
const TF32_ROUNDING = 2 ** -12;

/**
 * How far the log-probabilities of two computations of the same numbers may be apart, as a root mean square, when each
 * intermediate result was rounded in another way.
 *
 * Errors of n roundings, each at most u of its number and independent, add up like a random walk to u √n of the result,
 * whose size is the spread of the logits; four times that leaves room for models that enlarge errors on the way. u is that
 * of the coarsest dtype in play. In float32 the sums over the inputs of a layer are rounded too, about √(inputs) u
 * together; in bfloat16 the sums are float32's and do not count.
 *
 * @param dtypes - Of computing and of the weights.
 * @param spread - Of the logits, as a root mean square.
 */
export function roundingBound(architecture: Architecture, dtypes: readonly DType[], spread: number): number {
  const exact = engine.onGpu ? TF32_ROUNDING : ROUNDING.float32! * Math.sqrt(widestInput(architecture));
  const u = Math.max(exact, ...dtypes.map((dtype) => (dtype === 'float32' ? 0 : ROUNDING[dtype]!)));
  return 4 * u * Math.sqrt(roundings(architecture)) * spread;
}

/**
 * How far the merged model may be from base and adapter. Beside the rounding on the way, merging rounds the weights: where
 * an update is smaller than half the distance between two numbers of the dtype, it is lost. Lost is at most the share
 * ‖rounding errors‖ / ‖updates‖ (in the Frobenius norm, over all layers) of what the adapter does: the errors are spread
 * over all directions of a matrix, the update over few.
 *
 * @param adapterDifference - Of base and adapter from the base alone.
 */
export function mergedBound(
  rounding: number,
  { errorSquares, updateSquares }: MergeRounding,
  adapterDifference: number,
) {
  const lost = updateSquares === 0 ? 0 : Math.min(1, Math.sqrt(errorSquares / updateSquares));
  return rounding + lost * adapterDifference;
}

function roundings(architecture: Architecture): number {
  if (architecture.kind === 'decoder') return roundingsPerLayer(architecture) * architecture.layerCount;
  // Input, weight, output and activated of each layer.
  return 4 * architecture.layers.length;
}

function widestInput(architecture: Architecture): number {
  if (architecture.kind === 'decoder') return Math.max(architecture.hiddenSize, architecture.intermediateSize);
  return Math.max(...architecture.layers.map(({ inFeatures }) => inFeatures));
}
