import { ProductError } from '@lorasmith/contracts';
import type { FloatDtype, StoredTensor, TensorEntry } from '@lorasmith/weight-files';
import { modelFileLabel } from '../config/json-file.js';
import type { FourBitType } from '../families/family.js';
import {
  equalPart,
  inBfloat16,
  type QuantizedWeight,
  type TensorFiles,
  type TensorLocation,
} from './quantized-weight.js';

// Weights in 4 bits as bitsandbytes has them (Dettmers et al. 2023, arXiv:2305.14314). A weight [out, in] is a vector of numbers, row
// after row. Each number is a code of 4 bits, two in a byte, the first in the upper half; each 64 have a scale. With double quantization a
// scale is a code of 8 bits, each 256 of which have a scale of their own.

/** Numbers that share a scale. */
export const QUANTIZED_BLOCK = 64;
/** Scales that share a scale, with double quantization. */
export const NESTED_BLOCK = 256;

/** A matrix in 4 bits with a table of its own: in the files, or quantized when it is read. */
export abstract class FourBitWeight implements QuantizedWeight {
  abstract readonly reader: 'stored-4-bit' | 'quantized-on-load';
  abstract readonly type: FourBitType;
  /** `[out, in]` */
  abstract readonly shape: readonly [number, number];
  abstract readonly matrices: number | null;
  abstract readonly parts: readonly string[];
  /** True with double quantization. */
  abstract readonly isNested: boolean;
  readonly decodedBy = null;
  readonly ggufType = null;

  /** The scales of one matrix. */
  get scaleCount(): number {
    return Math.ceil((this.shape[0] * this.shape[1]) / QUANTIZED_BLOCK);
  }

  /** The scales of scales of one matrix with double quantization. */
  get nestedScaleCount(): number {
    return Math.ceil(this.scaleCount / NESTED_BLOCK);
  }

  /** No block crosses a row. */
  get packing(): string | null {
    if (this.shape[1] % QUANTIZED_BLOCK !== 0) return null;
    return this.isNested ? '4 bits, double quantization' : '4 bits';
  }

  get packedBytes(): number {
    const numbers = this.shape[0] * this.shape[1];
    const scales = numbers / QUANTIZED_BLOCK;
    const bytes = numbers / 2 + (this.isNested ? scales + (4 * scales) / NESTED_BLOCK : 4 * scales);
    return bytes * (this.matrices ?? 1);
  }

  get recorded() {
    return { type: this.type, double_quantization: this.isNested };
  }

  abstract merged(entry: TensorEntry): ReturnType<QuantizedWeight['merged']>;
  abstract storedMatrices(entry: TensorEntry, locate: TensorLocation): StoredTensor[];

  /** The tensor with its float32 scales, or with the numbers that are quantized, and what is wrong with one that is not finite. */
  abstract scaleSource(name: string): { tensor: string; fault: string };
}

/** Double quantization: a scale is `values[code] · its own scale + offset`, each step rounded to float32. */
interface NestedScales {
  values: Float32Array;
  /** Name of the tensor of the scales of scales, float32. */
  scales: string;
  offset: number;
}

/** The parts of a {@link StoredWeight}. */
interface StoredParts {
  type: FourBitType;
  /** `[out, in]` */
  shape: readonly [number, number];
  /** Each code's number: `[16]`. */
  values: Float32Array;
  /** Name of the tensor of the scales: float32, or codes of 8 bits with double quantization. */
  scales: string;
  nested: NestedScales | null;
  /** The other tensors that belong to it, besides the scales. */
  parts: readonly string[];
}

/** A weight in 4 bits of the files. Number i is `values[code i] · scale`, rounded to float32. */
export class StoredWeight extends FourBitWeight {
  readonly reader = 'stored-4-bit';
  readonly matrices = null;
  readonly type: FourBitType;
  readonly shape: readonly [number, number];
  readonly values: Float32Array;
  readonly scales: string;
  readonly nested: NestedScales | null;
  readonly parts: readonly string[];

  constructor({ type, shape, values, scales, nested, parts }: StoredParts) {
    super();
    this.type = type;
    this.shape = shape;
    this.values = values;
    this.scales = scales;
    this.nested = nested;
    this.parts = [scales, ...parts];
  }

  get isNested(): boolean {
    return this.nested !== null;
  }

  merged({ name }: TensorEntry) {
    return inBfloat16(name, this.shape);
  }

  storedMatrices({ name }: TensorEntry, locate: TensorLocation): StoredTensor[] {
    const { shape, values, scales, nested } = this;
    const ofScales = { scales: locate(scales), nested: nested && { ...nested, scales: locate(nested.scales) } };
    return [{ ...locate(name), quantized: { shape, values, ...ofScales } }];
  }

  scaleSource() {
    return { tensor: this.nested?.scales ?? this.scales, fault: 'scale that is negative or not finite' };
  }
}

/**
 * Checks the float32 scales of weights, one weight's behind the other's: with double quantization the scales of scales.
 * @param names of the weights
 * @throws ProductError model_file_corrupt for one that is negative or not finite
 */
export function checkScales(
  { path, tensors }: TensorFiles,
  names: readonly string[],
  weights: readonly FourBitWeight[],
  scales: Float32Array,
): void {
  const wrong = scales.findIndex((scale) => !(scale >= 0 && scale < Number.POSITIVE_INFINITY));
  if (wrong === -1) return;
  let next = 0;
  const index = weights.findIndex(({ matrices, isNested, nestedScaleCount, scaleCount }) => {
    next += (matrices ?? 1) * (isNested ? nestedScaleCount : scaleCount);
    return wrong < next;
  });
  const { tensor, fault } = weights[index]!.scaleSource(names[index]!);
  const label = `${modelFileLabel(path, tensors.get(tensor)!.file)}: tensor ${tensor}`;
  throw new ProductError('model_file_corrupt', `${label} has a ${fault}. Copy it again.`);
}

/** A weight of floats that is quantized when it is read, in NF4 with double quantization. No files have it so. */
export class QuantizedOnLoad extends FourBitWeight {
  readonly reader = 'quantized-on-load';
  readonly type = 'nf4';
  readonly isNested = true;
  readonly parts = [];
  readonly shape: readonly [number, number];
  readonly matrices: number | null;

  /**
   * @param shape `[out, in]`
   * @param matrices how many of that shape the tensor has, one behind the other; null: one
   */
  constructor(shape: readonly [number, number], matrices: number | null = null) {
    super();
    this.shape = shape;
    this.matrices = matrices;
  }

  /** A tensor of fused experts has more axes than a matrix of it. */
  merged({ name, shape }: TensorEntry) {
    return inBfloat16(name, shape);
  }

  storedMatrices({ name, dtype }: TensorEntry, locate: TensorLocation): StoredTensor[] {
    // Reading the folder has checked that it is a float dtype.
    const numbers = dtype as FloatDtype;
    const all = { ...locate(name), quantized: { shape: this.shape, numbers } };
    const count = this.matrices ?? 1;
    return Array.from({ length: count }, (_, index) => equalPart(all, index, count));
  }

  scaleSource(name: string) {
    return { tensor: name, fault: 'number that is not finite' };
  }
}
