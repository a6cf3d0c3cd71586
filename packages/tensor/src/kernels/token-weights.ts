// The arithmetic of native/ops/sample_tokens/token_draw.h: the same bits. Each operation is rounded to float32 by itself.

const { fround } = Math;

/** A weight is a multiple of 2^-40, so sums of weights are exact in any order. */
const WEIGHT_UNIT = 2 ** 40;
/** 2^-40 is the least weight that counts. */
const LEAST_EXPONENT = 40;
/** 2^-x as a polynomial, the highest power first; its last coefficient is 1. */
const POLYNOMIAL = Float32Array.of(
  ...[-1.5279194e-5, 1.5506794e-4, -1.3333748e-3, 9.617928e-3],
  ...[-5.5504106e-2, 2.402265e-1, -6.931472e-1, 1],
);

/** Sums of this many weights are exact as numbers. */
const EXACT_WEIGHTS = 4096;

/** The factor of the difference of two logits before {@link tokenWeight}; 0 for temperature 0. */
export function scaleOf(temperature: number): number {
  if (temperature === 0) return 0;
  // Neither 0, which is no temperature, nor infinite.
  return fround(Math.min(3e38, Math.max(1e-37, Math.LOG2E / temperature)));
}

/** `2^-x` of the product x = below · scale, rounded to float32: within 2^-23 of itself; 0 where it is less than 2^-40. */
export function tokenWeight(below: number, scale: number): number {
  const product = fround(below * scale);
  if (!(product < LEAST_EXPONENT)) return 0;
  const n = Math.trunc(fround(product + 0.5));
  const f = fround(product - n);
  let p = POLYNOMIAL[0]!;
  for (let k = 1; k < 8; k++) p = fround(fround(p * f) + POLYNOMIAL[k]!);
  return p * 2 ** -n;
}

/** A weight in units of 2^-40, rounded down. */
export const fixedWeight = (weight: number): number => Math.floor(weight * WEIGHT_UNIT);

/** The exact sum of the weights of at least `least`, in units of 2^-40. */
export function sumOfWeights(weights: Float32Array, least = 0): bigint {
  let sum = 0n;
  for (let first = 0; first < weights.length; first += EXACT_WEIGHTS) {
    const end = Math.min(weights.length, first + EXACT_WEIGHTS);
    let part = 0;
    for (let i = first; i < end; i++) if (weights[i]! >= least) part += fixedWeight(weights[i]!);
    sum += BigInt(part);
  }
  return sum;
}

/** A part of a sum, rounded down. @param part in units of 2^-32 */
export const partOf = (sum: bigint, part: number): bigint => (sum * BigInt(part)) >> 32n;

/** A share from 0 to 1 in units of 2^-32; for 1 the greatest. */
export const inUnits = (share: number): number => Math.min(2 ** 32 - 1, Math.floor(share * 2 ** 32));

/** A logit with its penalties. */
export function penalised(logit: number, repetition: number, subtracted: number): number {
  return fround(fround(logit > 0 ? logit / repetition : logit * repetition) - subtracted);
}
