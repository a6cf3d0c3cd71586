import { ProductError } from '@lorasmith/contracts';
import { DTYPE_NAMES, type ModelFolder } from '@lorasmith/model-folder';
import { type Adapter, DenseLinear, type GroupAdapter, type LinearGroup } from '@lorasmith/models';
import type { PeftAdapter, PeftModule } from '@lorasmith/peft-files';
import type { FloatDtype } from '@lorasmith/safetensors';
import {
  add,
  alias,
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
import { checkFailed } from './check-failed.js';
import { layerBound } from './rounding-bounds.js';

/** Size of a slice of rows in float32. Weights are merged slice by slice, so memory holds the merged weight and little else. */
const SLICE_BYTES = 32 * 2 ** 20;
/** Tokens on which a merged layer is compared with the adapted one. */
const COMPARED_TOKENS = 8;

/** Sizes of all updates merged so far, and of the rounding errors. */
export interface MergeRounding {
  /** Σ of the squared differences between merged weights and what they are before they are rounded. */
  errorSquares: number;
  /** Σ of the squared updates. */
  updateSquares: number;
  /** Σ of the squared weights that they are added to. */
  baseSquares: number;
}

export interface MergedLayer {
  module: PeftModule;
  /** The dtype of the weight in the base's files, and so in the merged model's. */
  storedDtype: DType;
}

/** Some rows of a merged weight, and their output for some tokens before rounding. */
interface MergedRows {
  /** `[rows, in]` */
  weight: Tensor;
  /** `[tokens, rows]` float32, W x + scale · B A x */
  output: Tensor;
  /** `[tokens, rows]` float32, scale · B A x alone */
  update: Tensor;
}

/** The update of each layer, and the dtype of its weight in the base's files. */
export function mergedLayers({ modules }: PeftAdapter, { linears, tensors }: ModelFolder): Map<string, MergedLayer> {
  return new Map(
    [...modules].map(([name, module]) => {
      const { dtype } = tensors.get(linears.get(name)!.weight)!.entry;
      // Reading the folder has checked that every linear layer has a float dtype.
      return [name, { module, storedDtype: DTYPE_NAMES[dtype as FloatDtype] }];
    }),
  );
}

/**
 * The model as it is in the merged download: `W + scale · B A`, computed in float32 and rounded once to the dtype of the
 * base's files. A merged weight is made for a forward pass and freed after it: the base's is not touched, and no second
 * model is in memory. Before it is rounded, it is compared with the adapter.
 */
export class MergedModel implements Adapter {
  /** Of all forward passes. */
  readonly rounding: MergeRounding = { errorSquares: 0, updateSquares: 0, baseSquares: 0 };
  readonly #adapter: Adapter;
  readonly #layers: ReadonlyMap<string, MergedLayer>;

  /**
   * @param adapter - What the merged layers are compared with.
   * @param layers - By name.
   */
  constructor(adapter: Adapter, layers: ReadonlyMap<string, MergedLayer>) {
    this.#adapter = adapter;
    this.#layers = layers;
  }

  at(group: LinearGroup): GroupAdapter | null {
    if (!group.modules.some(({ name }) => this.#layers.has(name))) return null;
    return new MergedGroup(group, this.#adapter.at(group), this.#layers, this.rounding);
  }
}

class MergedGroup implements GroupAdapter {
  readonly trained = false;
  readonly #group: LinearGroup;
  readonly #adapter: GroupAdapter | null;
  readonly #layers: ReadonlyMap<string, MergedLayer>;
  readonly #rounding: MergeRounding;

  /** @param rounding - Added to in every forward pass. */
  constructor(
    group: LinearGroup,
    adapter: GroupAdapter | null,
    layers: ReadonlyMap<string, MergedLayer>,
    rounding: MergeRounding,
  ) {
    this.#group = group;
    this.#adapter = adapter;
    this.#layers = layers;
    this.#rounding = rounding;
  }

  /** @throws ProductError merge_not_finite, adapter_check_failed; both name the layer */
  forward(x: Tensor): { output: Tensor; saved: null } {
    const { modules, linear } = this.#group;
    const own = linear.computeDtype;
    const stored = modules.flatMap(({ name }) => this.#layers.get(name)?.storedDtype ?? []);
    // Weights that the model's dtype cannot hold are used in float32, or the model's rounding would be blamed on merging.
    const dtype = stored.every((other) => other === own) ? own : 'float32';
    const output = scope(() => {
      const some = slice(x, [0, 0], [Math.min(COMPARED_TOKENS, x.shape[0]!), -1]);
      const adapted = this.#adapted(some); // [tokens, out]
      const parts: Tensor[] = [];
      let firstRow = 0;
      for (const { name, outFeatures } of modules) {
        const layer = this.#layers.get(name);
        if (layer === undefined) {
          parts.push(cast(linear.weightRows(firstRow, outFeatures), dtype));
        } else {
          const rows = this.#mergedRows(name, layer, firstRow, cast(some, 'float32'), dtype);
          this.#compare(name, rows, adapted, firstRow);
          parts.push(...rows.map(({ weight }) => weight));
        }
        firstRow += outFeatures;
      }
      const bias = linear.biasRows(0, linear.outFeatures);
      const merged = new DenseLinear(joined(parts, 0), bias && cast(bias, dtype));
      return cast(merged.forward(cast(x, dtype)), own);
    });
    x.dispose();
    return { output, saved: null };
  }

  /** `[tokens, out]` float32 */
  #adapted(x: Tensor): Tensor {
    const { linear } = this.#group;
    const output =
      this.#adapter === null
        ? linear.forward(x)
        : this.#adapter.forward(alias(x), () => linear.forward(x), { record: false, dropoutSeed: null }).output;
    return cast(output, 'float32');
  }

  backward(): never {
    throw new Error('a merged model is not trained through');
  }

  #mergedRows(name: string, layer: MergedLayer, firstRow: number, tokens: Tensor, dtype: FloatDType): MergedRows[] {
    const { inFeatures, outFeatures } = layer.module;
    const sliceRows = Math.max(1, Math.floor(SLICE_BYTES / (4 * inFeatures)));
    const all: MergedRows[] = [];
    for (let row = 0; row < outFeatures; row += sliceRows) {
      const rows = Math.min(sliceRows, outFeatures - row);
      const base = this.#group.linear.weightRows(firstRow + row, rows);
      all.push(scope(() => this.#merged(name, layer, base, row, tokens, dtype)));
    }
    return all;
  }

  /**
   * @param base - `[rows, in]`, those of the layer from `row` on
   * @param tokens - `[tokens, in]` float32
   */
  #merged(
    name: string,
    { module, storedDtype }: MergedLayer,
    base: Tensor,
    row: number,
    tokens: Tensor,
    dtype: FloatDType,
  ): MergedRows {
    const { a, b, rank, scale, inFeatures } = module;
    const rows = base.shape[0]!;
    const bRows = tensorOf(b.slice(row * rank, (row + rows) * rank), [rows, rank]);
    const scaleTensor = tensorOf(Float32Array.of(scale), []);
    const update = multiply(matMul(bRows, tensorOf(a, [rank, inFeatures])), scaleTensor); // [rows, in]
    const exactBase = cast(base, 'float32');
    const exact = add(exactBase, update);
    const weight = cast(cast(exact, storedDtype), dtype);
    const errorSquares = sumOfSquares(subtract(cast(weight, 'float32'), exact));
    if (!Number.isFinite(errorSquares)) {
      const message = `Merging ${name} gives numbers that are not finite in ${storedDtype}, the dtype of the base. Train with a lower learning_rate or alpha.`;
      throw new ProductError('merge_not_finite', message);
    }
    this.#rounding.errorSquares += errorSquares;
    this.#rounding.updateSquares += sumOfSquares(update);
    this.#rounding.baseSquares += sumOfSquares(exactBase);
    return {
      weight,
      output: matMul(tokens, exact, { transposeB: true }),
      update: matMul(tokens, update, { transposeB: true }),
    };
  }

  /** Merged and adapted layer are the same function, up to the rounding of the dtype that the model computes in. */
  #compare(name: string, rows: readonly MergedRows[], adapted: Tensor, firstRow: number): void {
    const { linear } = this.#group;
    const { difference, size } = scope(() => {
      const output = joined(
        rows.map((some) => some.output),
        1,
      ); // [tokens, out]
      const update = joined(
        rows.map((some) => some.update),
        1,
      );
      const count = output.shape[1]!;
      const bias = linear.biasRows(firstRow, count);
      const own = bias === null ? constant(0) : cast(bias, 'float32');
      const merged = add(output, own);
      const difference = norm(subtract(slice(adapted, [0, firstRow], [-1, count]), merged));
      // Base and update may cancel each other; each is rounded by its own size.
      return { difference, size: norm(merged) + 2 * norm(update) };
    });
    const bound = layerBound(linear.computeDtype, linear.inFeatures, size);
    // Not `>`: NaN must fail.
    if (difference <= bound) return;
    const differ = `by ${difference.toPrecision(3)} on the probe; at most ${bound.toPrecision(3)} comes from rounding`;
    throw checkFailed(`Merged into its base, ${name} differs from the layer with the adapter ${differ}.`);
  }
}

function joined(parts: Tensor[], axis: number): Tensor {
  return parts.length === 1 ? parts[0]! : concat(parts, axis);
}

function norm(x: Tensor): number {
  return Math.sqrt(sumOfSquares(x));
}

/** The numbers are scaled up first, so that the squares of tiny ones do not underflow. */
function sumOfSquares(x: Tensor): number {
  return scope(() => toNumber(sum(square(multiply(x, constant(2 ** 20))), 'all'))) * 2 ** -40;
}
