import { exactly, type OpAttribute } from '../binding.js';
import { elementType, execute, executeMany, intAttribute } from '../execute.js';
import { pad, slice } from '../layout.js';
import { type DType, scope, type Tensor } from '../tensor.js';
import { type LoraGradients, type LoraLayout, type LoraOutput, type LoraPart, partsTensor } from './lora.js';
import { hasFewRows, MOST_DECODED_BYTES, type PackedMatrix } from './packed-matrix.js';

/**
 * Frozen weights `[out, in]` in memory with padding: columns beyond their own where `in` is less than `out`, else rows. Products with an
 * adapter write its B or A there, so what is in the padding is nobody's.
 */
export interface PaddedWeight {
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** `[out, in + PADDING]` or `[out + PADDING, in]` */
  readonly tensor: Tensor;
}

/** The most ranks of a group, each rounded up to {@link RANK_MULTIPLE}, that padding has room for. */
export const PADDING = 64;
/** kLoraRankMultiple of native/ops/lora/lora_matrix.h */
const RANK_MULTIPLE = 8;

/** @param weight `[out, in]`, which stays the caller's */
export function padWeight(weight: Tensor): PaddedWeight {
  const [outFeatures, inFeatures] = weight.shape as [number, number];
  const [ofRows, ofColumns] = inFeatures < outFeatures ? [0, PADDING] : [PADDING, 0];
  const tensor = exactly(() =>
    pad(weight, [
      [0, ofRows],
      [0, ofColumns],
    ]),
  );
  return { outFeatures, inFeatures, tensor };
}

/** Rows of the weights themselves, `[count, in]`. */
export function rowsWithoutPadding({ tensor, inFeatures }: PaddedWeight, first: number, count: number): Tensor {
  return slice(tensor, [first, 0], [count, inFeatures]);
}

export function fusedPaddedProduct(a: Tensor, weight: PaddedWeight, transposed: boolean): Tensor {
  const { outFeatures, inFeatures, tensor } = weight;
  const attributes = [
    elementType(a),
    intAttribute('transpose_b', Number(transposed)),
    intAttribute('rows', outFeatures),
    intAttribute('columns', inFeatures),
  ];
  return execute('LorasmithPaddedProduct', attributes, [a, tensor]);
}

/** The kernels of a dtype that the plain product is made of. The table passes its own, so that this file does not import it. */
export type KernelsOfPadding = (dtype: DType) => {
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
};

export function rawPaddedProduct(
  kernelsFor: KernelsOfPadding,
  a: Tensor,
  weight: PaddedWeight,
  transposed: boolean,
): Tensor {
  return scope(() =>
    kernelsFor(a.dtype).matMul(a, rowsWithoutPadding(weight, 0, weight.outFeatures), false, transposed),
  );
}

/**
 * The products with frozen weights that an adapter alone in a pass is a part of, on the CUDA engine. `both`: the forward and the
 * backward product of each linear layer; `depth`: the one whose depth it lengthens. In the other one it would widen the result, which may
 * take one more column of tiles.
 */
export type LoraPadding = 'both' | 'depth';

/**
 * The value of GPU_LORA_PADDING. @defaultValue `both`
 * @throws Error for any other value
 */
export function loraPaddingOf(value: string | undefined): LoraPadding {
  if (value === undefined || value === '') return 'both';
  if (value === 'both' || value === 'depth') return value;
  throw new Error(`GPU_LORA_PADDING is ${JSON.stringify(value)}; it can be "both" or "depth"`);
}

// What the ops compute: see Kernels.

/** True if these adapters are one that {@link Kernels.adaptedForward} and {@link Kernels.adaptedPackedForward} take. */
export function isAdaptedAlone(parts: readonly LoraPart[], tokens: number): boolean {
  const [part] = parts;
  return part !== undefined && parts.length === 1 && part.rows.count === tokens && part.dropout === null && fits(part);
}

function fits({ layout }: LoraPart): boolean {
  const { inFeatures, outFeatures, adapted } = layout;
  const ranks = adapted.reduce((sum, { rank }) => sum + RANK_MULTIPLE * Math.ceil(rank / RANK_MULTIPLE), 0);
  return ranks <= PADDING && (inFeatures < outFeatures || adaptsAll(layout));
}

function adaptsAll({ outFeatures, adapted }: LoraLayout): boolean {
  return adapted.reduce((sum, own) => sum + own.outFeatures, 0) === outFeatures;
}

/** True if an adapter of these layers lengthens the depth of the product of a pass; else it widens the result. */
export function lengthensDepth(pass: 'forward' | 'backward', { inFeatures, outFeatures }: LoraLayout): boolean {
  return (pass === 'forward') === inFeatures < outFeatures;
}

/** Frozen weights for the fused ops. */
interface AdaptedOps {
  forward: string;
  backward: string;
  attributes: readonly OpAttribute[];
  inputs: readonly Tensor[];
}

function forwardBy(ops: AdaptedOps, x: Tensor, outFeatures: number, part: LoraPart): LoraOutput {
  const [output, low] = executeMany(
    ops.forward,
    [elementType(x), intAttribute('N', 1), intAttribute('out', outFeatures), ...ops.attributes],
    [x, ...ops.inputs, partsTensor([part]), part.parameters],
    2,
  );
  return { output: output!, low: [low!] };
}

function backwardBy(
  ops: AdaptedOps,
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  part: LoraPart,
  wanted: boolean,
): LoraGradients {
  const [byInput, ...byParameters] = executeMany(
    ops.backward,
    [elementType(x), intAttribute('N', 1), intAttribute('wanted', Number(wanted)), ...ops.attributes],
    [gradient, x, low[0]!, ...ops.inputs, partsTensor([part]), part.parameters],
    2,
  );
  return { byInput: wanted ? byInput! : null, byParameters };
}

function opsOfPadding({ tensor }: PaddedWeight): AdaptedOps {
  const names = { forward: 'LorasmithAdaptedForward', backward: 'LorasmithAdaptedBackward' };
  return { ...names, attributes: [], inputs: [tensor] };
}

export function fusedAdaptedForward(x: Tensor, weight: PaddedWeight, part: LoraPart): LoraOutput {
  return scope(() => forwardBy(opsOfPadding(weight), x, weight.outFeatures, part));
}

export function fusedAdaptedBackward(
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  weight: PaddedWeight,
  part: LoraPart,
  wanted: boolean,
): LoraGradients {
  return scope(() => backwardBy(opsOfPadding(weight), gradient, x, low, part, wanted));
}

function opsOfPacked({ ops, inputs }: PackedMatrix, mostDecodedBytes: number): AdaptedOps {
  const attributes = [intAttribute('most_decoded_bytes', mostDecodedBytes), ...ops.attributes];
  return { forward: ops.adaptedForward, backward: ops.adaptedBackward, attributes, inputs };
}

export function fusedAdaptedPackedForward(
  kernelsFor: KernelsOfAdaptedPacked,
  x: Tensor,
  weights: PackedMatrix,
  part: LoraPart,
): LoraOutput {
  // Nothing is decoded to memory.
  if (hasFewRows(x, weights)) return rawAdaptedPackedForward(kernelsFor, x, weights, part);
  return adaptedForwardInPieces(x, weights, part, MOST_DECODED_BYTES);
}

/** @param mostDecodedBytes the bytes of the weights that are decoded at a time */
export function adaptedForwardInPieces(
  x: Tensor,
  weights: PackedMatrix,
  part: LoraPart,
  mostDecodedBytes: number,
): LoraOutput {
  return scope(() => forwardBy(opsOfPacked(weights, mostDecodedBytes), x, weights.rows, part));
}

export function fusedAdaptedPackedBackward(
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  weights: PackedMatrix,
  part: LoraPart,
  wanted: boolean,
): LoraGradients {
  return adaptedBackwardInPieces(gradient, x, low, weights, part, wanted, MOST_DECODED_BYTES);
}

/** @param mostDecodedBytes the bytes of the weights that are decoded at a time */
export function adaptedBackwardInPieces(
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  weights: PackedMatrix,
  part: LoraPart,
  wanted: boolean,
  mostDecodedBytes: number,
): LoraGradients {
  return scope(() => backwardBy(opsOfPacked(weights, mostDecodedBytes), gradient, x, low, part, wanted));
}

/** The kernels of a dtype that the plain products are made of. The table passes its own, so that this file does not import it. */
export type KernelsOfAdapted = (dtype: DType) => KernelsOfLora & {
  paddedProduct(a: Tensor, weight: PaddedWeight, transposed: boolean): Tensor;
};

/** The same for weights in fewer bits. */
export type KernelsOfAdaptedPacked = (dtype: DType) => KernelsOfLora & {
  quantizedProduct(a: Tensor, weights: PackedMatrix, transposed: boolean): Tensor;
};

interface KernelsOfLora {
  loraForward(base: Tensor, x: Tensor, parts: readonly LoraPart[]): LoraOutput;
  loraBackward(
    gradient: Tensor,
    x: Tensor,
    low: readonly Tensor[],
    base: Tensor | null,
    parts: readonly LoraPart[],
  ): LoraGradients;
}

export function rawAdaptedForward(
  kernelsFor: KernelsOfAdapted,
  x: Tensor,
  weight: PaddedWeight,
  part: LoraPart,
): LoraOutput {
  const { paddedProduct, loraForward } = kernelsFor(x.dtype);
  return scope(() => loraForward(paddedProduct(x, weight, true), x, [part]));
}

export function rawAdaptedBackward(
  kernelsFor: KernelsOfAdapted,
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  weight: PaddedWeight,
  part: LoraPart,
  wanted: boolean,
): LoraGradients {
  const { paddedProduct, loraBackward } = kernelsFor(x.dtype);
  return scope(() => loraBackward(gradient, x, low, wanted ? paddedProduct(gradient, weight, false) : null, [part]));
}

export function rawAdaptedPackedForward(
  kernelsFor: KernelsOfAdaptedPacked,
  x: Tensor,
  weights: PackedMatrix,
  part: LoraPart,
): LoraOutput {
  const { quantizedProduct, loraForward } = kernelsFor(x.dtype);
  return scope(() => loraForward(quantizedProduct(x, weights, true), x, [part]));
}

export function rawAdaptedPackedBackward(
  kernelsFor: KernelsOfAdaptedPacked,
  gradient: Tensor,
  x: Tensor,
  low: readonly Tensor[],
  weights: PackedMatrix,
  part: LoraPart,
  wanted: boolean,
): LoraGradients {
  const { quantizedProduct, loraBackward } = kernelsFor(x.dtype);
  return scope(() =>
    loraBackward(gradient, x, low, wanted ? quantizedProduct(gradient, weights, false) : null, [part]),
  );
}
