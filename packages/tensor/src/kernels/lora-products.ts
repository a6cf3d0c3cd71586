import { add } from '../arithmetic.js';
import type { DType } from '../dtype.js';
import { elementType, executeMany, intAttribute } from '../execute.js';
import { fill, type RowRange, replaceRows, rowsOf } from '../layout.js';
import { scope, share, type Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import { keptScale } from './dropout.js';
import type { LoraLayout, LoraWeights } from './lora.js';

// What the ops compute: see Kernels.

/** A low-rank adapter at a group of linear layers, and the rows of the stream that it acts on. */
export interface LoraPart {
  rows: RowRange;
  /** `[all]` float32, of all groups; its layout says where this group's are. */
  parameters: Tensor;
  layout: LoraLayout;
  /** The same as matrices, for ops that multiply with them. They belong to the adapter. */
  weights(): LoraWeights;
  /** `rate` in 0 … 1, without 1; `seed` two integers below 2^31. null: no dropout */
  dropout: { rate: number; seed: readonly [number, number] } | null;
}

export type LoraOutput = {
  /** `[tokens, out]` */
  output: Tensor;
  /** The low-rank product `A dropout(x)` for {@link Kernels.loraBackward}, in a form of the implementation's own. */
  low: Tensor[];
};

export type LoraGradients = {
  /** `[tokens, in]`; null when it is not wanted */
  byInput: Tensor | null;
  /** The gradient of each adapter, `[parameters of the group]` float32. */
  byParameters: Tensor[];
};

export function fusedLoraForward(base: Tensor, x: Tensor, parts: readonly LoraPart[]): LoraOutput {
  return scope(() => {
    const [output, low] = executeMany(
      'LorasmithLoraForward',
      [elementType(x), intAttribute('N', parts.length)],
      [base, x, partsTensor(parts), ...parts.map(({ parameters }) => parameters)],
      2,
    );
    return { output: output!, low: [low!] };
  });
}

export function fusedLoraBackward(
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  base: Tensor | null,
  parts: readonly LoraPart[],
): LoraGradients {
  return scope(() => {
    const [byInput, ...byParameters] = executeMany(
      'LorasmithLoraBackward',
      [elementType(x), intAttribute('N', parts.length)],
      [
        ...[gradient, x, low[0]!, base ?? nothing(x.dtype), partsTensor(parts)],
        ...parts.map(({ parameters }) => parameters),
      ],
      1 + parts.length,
    );
    return { byInput: base && byInput!, byParameters };
  });
}

const nothings = new Map<DType, Tensor>();

/** `[0]` of this type, made once. */
function nothing(dtype: DType): Tensor {
  const own = nothings.get(dtype) ?? share(fill([0], 0, dtype));
  nothings.set(dtype, own);
  return own;
}

/** Fields of an adapter, and of each of its layers after them, in the order of native/ops/lora/lora_parts.h. A test compares them. */
export const PART_FIELDS = ['first', 'count', 'offset', 'layers', 'rateBits', 'scaleBits', 'seed0', 'seed1'] as const;
export const LAYER_FIELDS = ['rank', 'firstRow', 'rows', 'layerScaleBits'] as const;

/** The input `layout` of the ops. */
export function partsTensor(parts: readonly LoraPart[]): Tensor {
  const numbers: number[] = [];
  for (const { rows, layout, dropout } of parts) {
    const { rate, seed } = dropout ?? { rate: 0, seed: [0, 0] };
    const fields: Record<(typeof PART_FIELDS)[number], number> = {
      first: rows.first,
      count: rows.count,
      offset: layout.offset,
      layers: layout.adapted.length,
      rateBits: bitsOf(rate),
      scaleBits: bitsOf(keptScale(rate)),
      seed0: seed[0],
      seed1: seed[1],
    };
    for (const field of PART_FIELDS) numbers.push(fields[field]);
    numbers.push(...layerNumbersOf(layout));
  }
  return tensorOf(Int32Array.from(numbers), [numbers.length]);
}

const layerNumbers = new WeakMap<LoraLayout, readonly number[]>();

/** The fields of all layers. They are the same for a whole run, unlike an adapter's rows and seed, so they are made once. */
function layerNumbersOf(layout: LoraLayout): readonly number[] {
  const made = layerNumbers.get(layout);
  if (made !== undefined) return made;
  const numbers = layout.adapted.flatMap(({ rank, firstRow, outFeatures, scale }) => {
    const fields = { rank, firstRow, rows: outFeatures, layerScaleBits: bitsOf(scale) };
    return LAYER_FIELDS.map((field) => fields[field]);
  });
  layerNumbers.set(layout, numbers);
  return numbers;
}

const float = new Float32Array(1);
const bits = new Int32Array(float.buffer);

/** The bits of a float32, as an integer. */
function bitsOf(value: number): number {
  float[0] = value;
  return bits[0]!;
}

/** The kernels of a dtype that the raw products are made of. The table passes its own, so that this file does not import it. */
export type KernelsOfProducts = (dtype: DType) => {
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
  addMatMul(addend: Tensor, a: Tensor, b: Tensor, transposeB: boolean): Tensor;
  loraGradient(byA: Tensor, byScaledB: Tensor, layout: LoraLayout): Tensor;
  dropout(x: Tensor, rate: number, seed: readonly [number, number]): Tensor;
};

/** One adapter after the other, each in slices of the stream. */
export function rawLoraForward(
  kernelsFor: KernelsOfProducts,
  base: Tensor,
  x: Tensor,
  parts: readonly LoraPart[],
): LoraOutput {
  return scope(() => {
    const low: Tensor[] = [];
    const output = replaceRows(base, rangesOf(parts), (ownBase, index) => {
      const part = parts[index]!;
      const { a, scaledB } = part.weights();
      // [rows, in] x [sum of rank, in]ᵀ -> [rows, sum of rank]
      const own = scope(() => {
        const rows = dropped(kernelsFor, rowsOf(x, part.rows), part);
        return kernelsFor(rows.dtype).matMul(rows, a, false, true);
      });
      low.push(own);
      return kernelsFor(own.dtype).addMatMul(ownBase, own, scaledB, true); // [rows, out]
    });
    return { output, low };
  });
}

export function rawLoraBackward(
  kernelsFor: KernelsOfProducts,
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  base: Tensor | null,
  parts: readonly LoraPart[],
): LoraGradients {
  return scope(() => {
    const byParameters: Tensor[] = [];
    let next = 0;
    /** @returns by the rows of the input; null when it is not wanted */
    const backward = (ownBase: Tensor | null, index: number): Tensor | null => {
      const part = parts[index]!;
      const { a, scaledB } = part.weights();
      const saved = { first: next, count: part.rows.count };
      next += part.rows.count;
      const own = scope(() => {
        const byOutput = rowsOf(gradient, part.rows);
        const { matMul } = kernelsFor(byOutput.dtype);
        // [rows, out] x [out, sum of rank] -> [rows, sum of rank]
        const byLow = matMul(byOutput, scaledB, false, false);
        const byA = scope(() => {
          const rows = dropped(kernelsFor, rowsOf(x, saved), part);
          return kernelsFor(byLow.dtype).matMul(byLow, rows, true, false);
        });
        const byScaledB = matMul(byOutput, low[index]!, true, false);
        const byOwn = kernelsFor(byA.dtype).loraGradient(byA, byScaledB, part.layout);
        return { byOwn, byInput: ownBase && byInputOf(kernelsFor, ownBase, byLow, a, part) };
      });
      byParameters.push(own.byOwn);
      return own.byInput;
    };
    if (base !== null) {
      const byInput = replaceRows(base, rangesOf(parts), (ownBase, index) => backward(ownBase, index)!);
      return { byInput, byParameters };
    }
    for (const index of parts.keys()) backward(null, index);
    return { byInput: null, byParameters };
  });
}

/** `base + dropout(byLow A)`, `[rows, in]` */
function byInputOf(kernelsFor: KernelsOfProducts, base: Tensor, byLow: Tensor, a: Tensor, part: LoraPart): Tensor {
  const { matMul, addMatMul } = kernelsFor(byLow.dtype);
  if (part.dropout === null) return addMatMul(base, byLow, a, false);
  return scope(() => add(base, dropped(kernelsFor, matMul(byLow, a, false, false), part)));
}

const rangesOf = (parts: readonly LoraPart[]) => parts.map(({ rows }) => rows);

/** x where dropout leaves it, the same numbers for the same seed; x itself without dropout. Its own gradient. */
function dropped(kernelsFor: KernelsOfProducts, x: Tensor, { dropout }: LoraPart): Tensor {
  return dropout === null ? x : kernelsFor(x.dtype).dropout(x, dropout.rate, dropout.seed);
}
