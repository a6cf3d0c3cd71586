import { add, multiply, square, squareRoot, subtract, sum } from '../arithmetic.js';
import { elementType, executeMany, intsAttribute, typeAttribute } from '../execute.js';
import { concat, reshape, slice, split } from '../layout.js';
import { type DType, type FloatDType, scope, type Tensor, TF_DATA_TYPE } from '../tensor.js';
import { cast, constant } from '../transfer.js';
import { type LoraLayout, layoutAttributes, totalRankOf } from './lora.js';
import { rawMatMul } from './product.js';

// What the op computes: see Kernels.

/** The numbers of an adapter's group, and how they become a weight. */
export interface MergeSettings {
  layout: LoraLayout;
  /** The dtype of each adapted layer's weight in the base's files: float32, bfloat16 or float16. */
  stored: readonly DType[];
  /** The type of the result; it must hold every number of the files. */
  dtype: FloatDType;
}

/** A group's weight with an adapter merged into it, and what tells whether it is right. */
export type MergedWeight = {
  /** `[out, in]` */
  weight: Tensor;
  /** `[tokens, out]` float32: its output for some tokens, before it is rounded */
  output: Tensor;
  /** `[layers, 3]` float32, Frobenius norms of each adapted layer: of the rounding errors, the update, and the frozen weight */
  norms: Tensor;
};

export function fusedMergedWeight(
  base: Tensor,
  parameters: Tensor,
  tokens: Tensor,
  { layout, stored, dtype }: MergeSettings,
): MergedWeight {
  const dtypes = intsAttribute(
    'stored',
    stored.map((one) => TF_DATA_TYPE[one]),
  );
  const attributes = [elementType(base), typeAttribute('Result', dtype), ...layoutAttributes(layout), dtypes];
  const [weight, output, norms] = executeMany('LorasmithMergedWeight', attributes, [base, parameters, tokens], 3);
  return { weight: weight!, output: output!, norms: norms! };
}

/** Size of a slice of rows in float32: memory holds the merged weight and little else. */
const SLICE_BYTES = 32 * 2 ** 20;

export function rawMergedWeight(
  base: Tensor,
  parameters: Tensor,
  tokens: Tensor,
  { layout, stored, dtype }: MergeSettings,
): MergedWeight {
  return scope(() => {
    const { adapted, inFeatures, outFeatures, offset } = layout;
    const a = split(
      reshape(slice(parameters, [offset], [totalRankOf(layout) * inFeatures]), [-1, inFeatures]),
      adapted.map(({ rank }) => rank),
      0,
    );
    const weights: Tensor[] = [];
    const outputs: Tensor[] = [];
    const norms: Tensor[] = [];
    let row = 0;
    /** The rows up to `end`, merged by `merge` or as they are. */
    const addRows = (end: number, storedDtype: DType, updateOf: ((first: number, rows: number) => Tensor) | null) => {
      const first = row;
      const sliceRows = Math.max(1, Math.floor(SLICE_BYTES / (4 * inFeatures)));
      let squares: Tensor | null = null; // [3]
      for (; row < end; row = Math.min(end, row + sliceRows)) {
        const rows = Math.min(sliceRows, end - row);
        const merged = scope(() => {
          const frozen = cast(slice(base, [row, 0], [rows, -1]), 'float32');
          const update = updateOf?.(row - first, rows);
          const exact = update === undefined ? frozen : add(frozen, update);
          const weight = cast(cast(exact, storedDtype), dtype);
          const errors = subtract(cast(weight, 'float32'), exact);
          const own = update && concat([errors, update, frozen].map(scaledSquareSum), 0);
          return { weight, output: rawMatMul(tokens, exact, false, true), own };
        });
        weights.push(merged.weight);
        outputs.push(merged.output);
        if (merged.own !== undefined) squares = squares === null ? merged.own : add(squares, merged.own);
      }
      if (squares !== null) norms.push(multiply(squareRoot(squares), constant(1 / SQUARE_SCALE)));
    };
    let nextB = offset + totalRankOf(layout) * inFeatures;
    for (const [i, layer] of adapted.entries()) {
      const { rank, firstRow } = layer;
      const firstB = nextB;
      addRows(firstRow, base.dtype, null);
      addRows(firstRow + layer.outFeatures, stored[i]!, (first, rows) => {
        const b = reshape(slice(parameters, [firstB + first * rank], [rows * rank]), [rows, rank]);
        return multiply(rawMatMul(b, a[i]!, false, false), constant(layer.scale)); // [rows, in]
      });
      nextB += layer.outFeatures * rank;
    }
    addRows(outFeatures, base.dtype, null);
    return { weight: concat(weights, 0), output: concat(outputs, 1), norms: reshape(concat(norms, 0), [-1, 3]) };
  });
}

/** Numbers are scaled up before they are squared, so that the squares of tiny ones do not underflow. */
const SQUARE_SCALE = 2 ** 20;

/** `[1]` */
function scaledSquareSum(x: Tensor): Tensor {
  return reshape(sum(square(multiply(x, constant(SQUARE_SCALE))), 'all'), [1]);
}
