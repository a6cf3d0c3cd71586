import type { IndexRange, TensorConversion } from '@lorasmith/weight-files';

/** A part of a decoder's layer, and how llama.cpp has it. */
export interface LayerPart {
  /** The module, or the tensor of a part that is none, relative to a layer; null where the family lacks it. */
  path: string | null;
  name: string;
  isTensor?: boolean;
  /** True if it is a norm of the residual stream, or of queries or keys. */
  isNorm?: boolean;
  /** True if −exp(number) is written. */
  decays?: boolean;
  rowOrder?: readonly IndexRange[] | undefined;
  columnOrder?: readonly IndexRange[] | undefined;
  /** The rows of each head that it has, as a matrix of its own. @defaultValue it is one matrix */
  ofHeads?: RowsOfHeads;
  /** True if llama.cpp applies no adapter to it. @defaultValue false */
  withoutAdapter?: boolean;
}

/** Some rows of each head of a weight: a matrix in a tensor of three axes. */
export interface RowsOfHeads {
  heads: number;
  /** The rows of a head in the weight. */
  size: number;
  /** The first of those that are written. */
  first: number;
  count: number;
  /** True if `[width, count]` is written. */
  transposed: boolean;
}

/** A tensor of a decoder's layer that is no part of a module. */
export interface LayerTensor {
  /** Name in the weight files. */
  source: string;
  name: string;
  /** The one number of each group of the last axis that is written; undefined: all of them. */
  numberOfEach: TensorConversion['rowOfEach'];
}
