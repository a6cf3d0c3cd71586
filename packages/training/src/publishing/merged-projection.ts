import { ProductError } from '@lorasmith/contracts';
import type { PeftModule } from '@lorasmith/lora';
import { FrozenProjection, type Projection, type ProjectionSlot, type Saved } from '@lorasmith/models';
import {
  add,
  cast,
  concat,
  constant,
  type DType,
  type FloatDType,
  matMul,
  multiply,
  scope,
  slice,
  square,
  subtract,
  sum,
  type Tensor,
  tensorOf,
  toNumber,
} from '@lorasmith/tensor';

/** Rows are merged in slices of about this much float32, so that memory holds the merged weight and little besides. */
const SLICE_BYTES = 32 * 2 ** 20;

/** What rounding did to the updates of all layers together. */
export interface MergeRounding {
  /** Σ of the squared differences between merged weights and what they are before they are rounded. */
  errorSquares: number;
  /** Σ of the squared updates. */
  updateSquares: number;
}

export interface MergedLayer {
  module: PeftModule;
  /** What the weight has in the base's files, and so in the merged model's. */
  storedDtype: DType;
}

/**
 * A place of the model as it is in the merged download: `W + scale · B A`, computed in float32 and rounded once to the
 * dtype of the base's files. The merged weight is made for a forward pass and freed after it: the base's is not touched,
 * and no second model is in memory.
 */
export class MergedProjection implements Projection {
  readonly trained = false;
  readonly #slot: ProjectionSlot;
  readonly #layers: ReadonlyMap<string, MergedLayer>;
  readonly #rounding: MergeRounding;

  /**
   * @param layers - By name; those that are not of this slot are not looked at.
   * @param rounding - Added to in every forward pass.
   */
  constructor(slot: ProjectionSlot, layers: ReadonlyMap<string, MergedLayer>, rounding: MergeRounding) {
    this.#slot = slot;
    this.#layers = layers;
    this.#rounding = rounding;
  }

  /** @throws ProductError merge_not_finite naming the layer */
  forward(x: Tensor): { output: Tensor; saved: Saved } {
    const { weight: base, bias } = this.#slot.frozen;
    const own = base.dtype as FloatDType;
    const stored = this.#slot.modules.map(({ name }) => this.#layers.get(name)?.storedDtype);
    // Weights that the model's dtype cannot hold are used in float32, or the model's rounding would be blamed on merging.
    const dtype = stored.every((other) => other === undefined || other === own) ? own : 'float32';
    return scope(() => {
      const weight = concatRows(this.#slot.modules.flatMap((module) => this.#mergedRows(module.name, dtype)));
      const merged = new FrozenProjection(weight, bias === null ? null : cast(bias, dtype));
      return { output: cast(merged.forward(cast(x, dtype)).output, own), saved: null };
    });
  }

  backward(): never {
    throw new Error('a merged projection is not trained through');
  }

  /** The rows of one layer, `[rows, in]` each. */
  #mergedRows(name: string, dtype: FloatDType): Tensor[] {
    const { weight } = this.#slot.frozen;
    const { inFeatures } = this.#slot;
    const { firstRow, outFeatures } = this.#rowsOf(name);
    const layer = this.#layers.get(name);
    if (layer === undefined) return [cast(slice(weight, [firstRow, 0], [outFeatures, -1]), dtype)];
    const sliceRows = Math.max(1, Math.floor(SLICE_BYTES / (4 * inFeatures)));
    const parts: Tensor[] = [];
    for (let row = 0; row < outFeatures; row += sliceRows) {
      const rows = Math.min(sliceRows, outFeatures - row);
      const base = slice(weight, [firstRow + row, 0], [rows, -1]);
      parts.push(scope(() => this.#merged(base, row, layer, name, dtype)));
    }
    return parts;
  }

  /** @param base `[rows, in]`, rows of the layer from `row` on */
  #merged(base: Tensor, row: number, { module, storedDtype }: MergedLayer, name: string, dtype: FloatDType): Tensor {
    const { a, b, rank, scale, inFeatures } = module;
    const rows = base.shape[0]!;
    const bRows = tensorOf(b.slice(row * rank, (row + rows) * rank), [rows, rank]);
    const update = multiply(matMul(bRows, tensorOf(a, [rank, inFeatures])), tensorOf(Float32Array.of(scale), [])); // [rows, in]
    const exact = add(cast(base, 'float32'), update);
    const merged = cast(cast(exact, storedDtype), dtype);
    const errorSquares = sumOfSquares(subtract(cast(merged, 'float32'), exact));
    if (!Number.isFinite(errorSquares)) {
      const message = `Merging ${name} gives numbers that are not finite in ${storedDtype}, the dtype of the base. Train with a lower learning_rate or alpha.`;
      throw new ProductError('merge_not_finite', message);
    }
    this.#rounding.errorSquares += errorSquares;
    this.#rounding.updateSquares += sumOfSquares(update);
    return merged;
  }

  #rowsOf(name: string): { firstRow: number; outFeatures: number } {
    let firstRow = 0;
    for (const module of this.#slot.modules) {
      if (module.name === name) return { firstRow, outFeatures: module.outFeatures };
      firstRow += module.outFeatures;
    }
    throw new Error(`the slot has no layer ${name}`);
  }
}

function concatRows(parts: Tensor[]): Tensor {
  return parts.length === 1 ? parts[0]! : concat(parts, 0);
}

/** Of numbers of which many are tiny: they are enlarged first, so that their squares do not underflow. */
function sumOfSquares(x: Tensor): number {
  return scope(() => toNumber(sum(square(multiply(x, constant(2 ** 20))), 'all'))) * 2 ** -40;
}
