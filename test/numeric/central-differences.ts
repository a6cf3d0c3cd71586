/** Step of the differences: see {@link FINITE_DIFFERENCE_TOLERANCE}. */
const STEP = 1e-2;

/**
 * Maximum error of a gradient against {@link centralDifferences}, relative to its largest entry. With step h = 10⁻² the
 * differences omit h²/6 of the third derivative, about 10⁻⁵ to 10⁻⁴ for smooth functions of numbers near 1, and float32
 * outputs of size 1 add rounding of about 10⁻⁷/h = 10⁻⁵ each. 2 × 10⁻³ leaves a margin for sums of many such outputs
 * and is far below the effect of a wrong term.
 */
export const FINITE_DIFFERENCE_TOLERANCE = 2e-3;

/**
 * The gradient of a function by every entry of `x`, by central finite differences.
 * @param f a smooth function; sums its outputs in float64
 */
export function centralDifferences(f: (x: Float32Array<ArrayBuffer>) => number, x: Float32Array): Float64Array {
  return Float64Array.from(x, (_, i) => {
    const above = Float32Array.from(x);
    const below = Float32Array.from(x);
    above[i]! += STEP;
    below[i]! -= STEP;
    // The step after rounding.
    return (f(above) - f(below)) / (above[i]! - below[i]!);
  });
}

/** `Σ weights · outputs` in float64: reduces a block's output to one number, whose gradient by the output is `weights`. */
export function weightedSum(outputs: ArrayLike<number>, weights: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += outputs[i]! * weights[i]!;
  return sum;
}
