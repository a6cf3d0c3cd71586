import type { DecoderArchitecture } from '@lorasmith/model-folder';
import type { FloatDType } from '@lorasmith/tensor';
import { roundingsPerLayer } from '../publishing/rounding-bounds.js';

/** The error of one part of our results. */
export interface Comparison {
  /** The compared part, for instance `logits`, or `gradient of model.layers.0.self_attn.q_proj.lora_A`. */
  part: string;
  /** The largest error, as `measure` says. */
  error: number;
  measure: 'absolute' | 'relative to the largest' | 'relative in norm';
  tolerance: number;
}

export function isWithin({ error, tolerance }: Comparison): boolean {
  // NaN is never within a tolerance.
  return error <= tolerance;
}

type Numbers = ArrayLike<number>;

function checkLengths(actual: Numbers, expected: Numbers): void {
  if (actual.length !== expected.length) throw new Error(`${actual.length} numbers to compare with ${expected.length}`);
}

/** The greatest |actual - expected|; NaN when any number is. */
export function greatestDifference(actual: Numbers, expected: Numbers): number {
  checkLengths(actual, expected);
  let greatest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= greatest)) greatest = difference;
    if (Number.isNaN(greatest)) return greatest;
  }
  return greatest;
}

/** {@link greatestDifference} over the greatest |expected|; undivided if all expected numbers are zero. */
export function differenceByLargest(actual: Numbers, expected: Numbers): number {
  const largest = Array.from(expected).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return greatestDifference(actual, expected) / (largest || 1);
}

/** |actual - expected| over |expected|, Euclidean norms. */
export function differenceByNorm(actual: Numbers, expected: Numbers): number {
  checkLengths(actual, expected);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** The largest errors allowed against a float32 reference. */
export interface Tolerances {
  /** Absolute for float32; for bfloat16 relative to the largest logit. */
  logits: number;
  /** Absolute. */
  loss: number;
  /** Relative to the largest entry of each gradient. */
  gradient: number;
  /** Tolerance of the losses over the steps, absolute. */
  stepLosses: number;
  /** Tolerance of the gradient norms over the steps, relative. */
  stepNorms: number;
  /** Absolute for float32; for bfloat16 relative in norm to how far training moved it. */
  trained: number;
}

const FLOAT32: Tolerances = {
  logits: 1e-4,
  loss: 1e-4,
  gradient: 1e-4,
  stepLosses: 1e-4,
  stepNorms: 1e-4,
  trained: 1e-5,
};

/** bfloat16 has 8 significant bits: rounding to nearest changes a number by at most this share. */
const BFLOAT16_ROUNDING = 2 ** -9;
/**
 * The tolerances in a precision. In float32 they are the reference's own. In bfloat16 they follow from the rounding: errors
 * of n roundings, each at most u = 2⁻⁹ of its number and independent, add up like a random walk to about u √n; four times
 * that allows for the largest of many entries. A result has passed n roundings (16 or a few more) in each layer going
 * forward, a gradient twice as many. The loss is a mean over n labels whose errors are independent: the bound of a logit
 * over √n. AdamW's first steps move each number by the learning rate in the direction of its gradient's sign, so small
 * gradients whose sign flips count fully: 2 × the gradient's tolerance in norm per √step for the matrices. All this holds
 * for smooth activations: the slope of relu jumps where rounding changes a sign, and PyTorch's own bfloat16 gradients miss
 * these bounds too.
 */
export function tolerancesOf(
  precision: FloatDType,
  architecture: DecoderArchitecture,
  reference: { largestLogit: number; labels: number },
): Tolerances {
  if (precision === 'float32') return FLOAT32;
  const forward = 4 * BFLOAT16_ROUNDING * Math.sqrt(roundingsPerLayer(architecture) * architecture.layerCount);
  const backward = forward * Math.SQRT2;
  const loss = (forward * reference.largestLogit) / Math.sqrt(reference.labels);
  return {
    logits: forward,
    loss,
    gradient: backward,
    stepLosses: loss,
    stepNorms: backward,
    trained: 2 * backward * Math.sqrt(6),
  };
}
