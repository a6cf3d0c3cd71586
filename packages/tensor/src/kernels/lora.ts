import { multiply } from '../arithmetic.js';
import type { OpAttribute } from '../binding.js';
import type { FloatDType } from '../dtype.js';
import {
  elementType,
  execute,
  executeMany,
  floatsAttribute,
  intAttribute,
  intsAttribute,
  typeAttribute,
} from '../execute.js';
import { concat, fill, pad, reshape, slice, split } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';

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
 * Where the parameters of a group of adapted layers lie in the vector of all: their A `[Σ rank, in]`, one below the other,
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

/** How many parameters the group has. */
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
