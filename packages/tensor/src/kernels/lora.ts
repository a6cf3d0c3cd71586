import { add, multiply } from '../arithmetic.js';
import type { OpAttribute } from '../binding.js';
import {
  elementType,
  execute,
  executeMany,
  floatsAttribute,
  intAttribute,
  intsAttribute,
  typeAttribute,
} from '../execute.js';
import { concat, fill, pad, type RowRange, replaceRows, reshape, rowsOf, slice, split } from '../layout.js';
import { type DType, type FloatDType, scope, share, type Tensor } from '../tensor.js';
import { cast, constant, tensorOf } from '../transfer.js';
import { keptScale } from './dropout.js';

// What the ops compute: see Kernels.

/** An adapted layer of a group. */
export interface AdaptedRows {
  rank: number;
  /** The factor of B A: alpha / rank. */
  scale: number;
  outFeatures: number;
  /** Index of its first row in the group. */
  firstRow: number;
}

/**
 * The location of a group's parameters in the vector of all: their A `[Σ rank, in]`, one below the other,
 * then each layer's B `[out, rank]`.
 */
export interface LoraLayout {
  /** Index of the group's first number. */
  offset: number;
  inFeatures: number;
  /** The rows of all layers of the group, adapted or not. */
  outFeatures: number;
  /** The adapted layers, in the order of their rows. */
  adapted: readonly AdaptedRows[];
}

/** The matrices of a group as products use them, in the model's dtype. */
export type LoraWeights = {
  /** `[Σ rank, in]` */
  a: Tensor;
  /** `[out, Σ rank]`: each layer's scale · B on the diagonal, zero elsewhere */
  scaledB: Tensor;
};

export function totalRankOf({ adapted }: LoraLayout): number {
  return adapted.reduce((sum, { rank }) => sum + rank, 0);
}

/** The number of the group's parameters. */
export function parametersOf(layout: LoraLayout): number {
  const ofA = totalRankOf(layout) * layout.inFeatures;
  return layout.adapted.reduce((sum, { rank, outFeatures }) => sum + outFeatures * rank, ofA);
}

export function fusedLoraWeights(parameters: Tensor, layout: LoraLayout, dtype: FloatDType): LoraWeights {
  const attributes = [typeAttribute('T', dtype), ...layoutAttributes(layout)];
  const [a, scaledB] = executeMany('LorasmithLoraWeights', attributes, [parameters], 2);
  return { a: a!, scaledB: scaledB! };
}

export function rawLoraWeights(parameters: Tensor, layout: LoraLayout, dtype: FloatDType): LoraWeights {
  return scope(() => {
    const totalRank = totalRankOf(layout);
    const own = slice(parameters, [layout.offset], [parametersOf(layout)]);
    const sizes = layout.adapted.map(({ outFeatures, rank }) => outFeatures * rank);
    const [flatA, ...flatB] = split(own, [totalRank * layout.inFeatures, ...sizes], 0);
    const scaled = layout.adapted.map(({ outFeatures, rank, scale }, i) =>
      multiply(reshape(flatB[i]!, [outFeatures, rank]), constant(scale)),
    );
    return {
      a: cast(reshape(flatA!, [totalRank, layout.inFeatures]), dtype),
      scaledB: cast(onDiagonal(scaled, layout), dtype),
    };
  });
}

export function fusedLoraGradient(byA: Tensor, byScaledB: Tensor, layout: LoraLayout): Tensor {
  return execute('LorasmithLoraGradient', [elementType(byA), ...layoutAttributes(layout)], [byA, byScaledB]);
}

export function rawLoraGradient(byA: Tensor, byScaledB: Tensor, layout: LoraLayout): Tensor {
  return scope(() => {
    const blocks = diagonalOf(cast(byScaledB, 'float32'), layout);
    const byB = blocks.map((block, i) => multiply(block, constant(layout.adapted[i]!.scale)));
    const pieces = [cast(byA, 'float32'), ...byB];
    return concat(
      pieces.map((piece) => reshape(piece, [piece.size])),
      0,
    );
  });
}

export function layoutAttributes({ offset, inFeatures, outFeatures, adapted }: LoraLayout): OpAttribute[] {
  return [
    intAttribute('offset', offset),
    intAttribute('in', inFeatures),
    intAttribute('out', outFeatures),
    intsAttribute(
      'ranks',
      adapted.map(({ rank }) => rank),
    ),
    intsAttribute(
      'rows',
      adapted.map((one) => one.outFeatures),
    ),
    intsAttribute(
      'first_rows',
      adapted.map(({ firstRow }) => firstRow),
    ),
    floatsAttribute(
      'scales',
      adapted.map(({ scale }) => scale),
    ),
  ];
}

/** `[out, rank]` of each layer → `[out of all, Σ rank]`, zero off the diagonal. */
function onDiagonal(b: readonly Tensor[], layout: LoraLayout): Tensor {
  const totalRank = totalRankOf(layout);
  const bands: Tensor[] = [];
  let row = 0;
  let column = 0;
  for (const [i, { rank, outFeatures, firstRow }] of layout.adapted.entries()) {
    if (firstRow > row) bands.push(fill([firstRow - row, totalRank], 0));
    bands.push(
      pad(b[i]!, [
        [0, 0],
        [column, totalRank - column - rank],
      ]),
    );
    row = firstRow + outFeatures;
    column += rank;
  }
  if (layout.outFeatures > row) bands.push(fill([layout.outFeatures - row, totalRank], 0));
  return concat(bands, 0);
}

/** The inverse of {@link onDiagonal}. Numbers off the diagonal are not parameters. */
function diagonalOf(stacked: Tensor, { outFeatures: totalRows, adapted }: LoraLayout): Tensor[] {
  const ranks = adapted.map(({ rank }) => rank);
  const heights: number[] = [];
  const bandOf: number[] = [];
  let row = 0;
  for (const { outFeatures, firstRow } of adapted) {
    if (firstRow > row) heights.push(firstRow - row);
    bandOf.push(heights.length);
    heights.push(outFeatures);
    row = firstRow + outFeatures;
  }
  if (totalRows > row) heights.push(totalRows - row);
  const bands = split(stacked, heights, 0);
  return ranks.map((_, i) => split(bands[bandOf[i]!]!, ranks, 1)[i]!);
}

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
