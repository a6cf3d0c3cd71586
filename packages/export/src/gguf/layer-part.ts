import type { IndexRange, TensorConversion } from '@lorasmith/weight-io';

/** A part of a decoder's layer, and how llama.cpp has it. */
export interface LayerPart {
  /** The module, or the tensor of a part that is none, relative to a layer; null where the family lacks it. */
  path: string | null;
  name: string;
  isTensor?: boolean;
  /** Whether it is a norm of the residual stream, or of queries or keys. */
  isNorm?: boolean;
  /** Whether −exp(number) is written. */
  decays?: boolean;
  rowOrder?: readonly IndexRange[] | undefined;
  columnOrder?: readonly IndexRange[] | undefined;
}

/** A tensor of a decoder's layer that is no part of a module. */
export interface LayerTensor {
  /** Name in the weight files. */
  source: string;
  name: string;
  /** The one number of each group of the last axis that is written; undefined: all of them. */
  numberOfEach: TensorConversion['rowOfEach'];
}
