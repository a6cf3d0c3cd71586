import type { DType } from '../dtype.js';
import { exactly } from '../exact-memory.js';
import { elementType, execute, intAttribute } from '../execute.js';
import { pad, slice } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';

/**
 * Frozen weights `[out, in]` in memory with a margin: columns beyond their own where `in` is less than `out`, else rows. Products with an
 * adapter write its B or A there, so what is in the margin is nobody's.
 */
export interface MarginWeight {
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** `[out, in + MARGIN]` or `[out + MARGIN, in]` */
  readonly tensor: Tensor;
}

/** The most ranks of a group, each rounded up to {@link RANK_MULTIPLE}, that a margin has place for. */
export const MARGIN = 64;
/** kLoraRankMultiple of native/ops/lora/lora_matrix.h */
export const RANK_MULTIPLE = 8;

/** @param weight `[out, in]`, which stays the caller's */
export function withMargin(weight: Tensor): MarginWeight {
  const [outFeatures, inFeatures] = weight.shape as [number, number];
  const [ofRows, ofColumns] = inFeatures < outFeatures ? [0, MARGIN] : [MARGIN, 0];
  const tensor = exactly(() =>
    pad(weight, [
      [0, ofRows],
      [0, ofColumns],
    ]),
  );
  return { outFeatures, inFeatures, tensor };
}

/** Rows of the weights themselves, `[count, in]`. */
export function rowsWithoutMargin({ tensor, inFeatures }: MarginWeight, first: number, count: number): Tensor {
  return slice(tensor, [first, 0], [count, inFeatures]);
}

export function fusedMarginProduct(a: Tensor, weight: MarginWeight, transposed: boolean): Tensor {
  const { outFeatures, inFeatures, tensor } = weight;
  const attributes = [
    elementType(a),
    intAttribute('transpose_b', Number(transposed)),
    intAttribute('rows', outFeatures),
    intAttribute('columns', inFeatures),
  ];
  return execute('LorasmithMarginProduct', attributes, [a, tensor]);
}

/** The kernels of a dtype that the plain product is made of. The table passes its own, so that this file does not import it. */
export type KernelsOfMargin = (dtype: DType) => {
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
};

export function rawMarginProduct(
  kernelsFor: KernelsOfMargin,
  a: Tensor,
  weight: MarginWeight,
  transposed: boolean,
): Tensor {
  return scope(() =>
    kernelsFor(a.dtype).matMul(a, rowsWithoutMargin(weight, 0, weight.outFeatures), false, transposed),
  );
}

/**
 * The products with frozen weights that an adapter alone in a pass is a part of, on the CUDA engine. `both`: the forward and the
 * backward product of each linear layer; `depth`: the one whose depth it lengthens. In the other one it would widen the result, which may
 * take one more column of tiles.
 */
export type LoraMargin = 'both' | 'depth';

/**
 * The value of GPU_LORA_MARGIN. @defaultValue `both`
 * @throws Error for any other value
 */
export function loraMarginOf(value: string | undefined): LoraMargin {
  if (value === undefined || value === '') return 'both';
  if (value === 'both' || value === 'depth') return value;
  throw new Error(`GPU_LORA_MARGIN is ${JSON.stringify(value)}; it can be "both" or "depth"`);
}
