import { type EngineKind, engine } from '../binding.js';
import { type DType, type FloatDType, TF_DATA_TYPE } from '../dtype.js';
import type { Tensor } from '../tensor.js';
import {
  type Activation,
  fusedActivation,
  fusedActivationGradient,
  rawActivation,
  rawActivationGradient,
} from './activation.js';
import {
  type AdamWState,
  type AdamWStep,
  type AdamWUpdate,
  fusedAdamW,
  fusedSquareSum,
  rawAdamW,
  rawSquareSum,
} from './adamw.js';
import {
  fusedAdaptedBackward,
  fusedAdaptedForward,
  fusedAdaptedPackedBackward,
  fusedAdaptedPackedForward,
  lengthensDepth,
  rawAdaptedBackward,
  rawAdaptedForward,
  rawAdaptedPackedBackward,
  rawAdaptedPackedForward,
} from './adapted-product.js';
import type { AttentionRows, BatchAttention } from './attention.js';
import { AttentionByHeadSize } from './attention-by-head-size.js';
import {
  fusedCausalConvolution,
  fusedCausalConvolutionGradient,
  rawCausalConvolution,
  rawCausalConvolutionGradient,
} from './causal-convolution.js';
import { fusedClampedUnit, fusedClampedUnitGradient, rawClampedUnit, rawClampedUnitGradient } from './clamped-unit.js';
import { type CrossEntropy, fusedCrossEntropy, rawCrossEntropy } from './cross-entropy.js';
import { fusedDropout, rawDropout } from './dropout.js';
import { fusedAttention } from './fused-attention.js';
import { fusedCache } from './fused-cache.js';
import { type InstructionSet, loadFusedLibrary } from './fused-library.js';
import { fusedGatedDelta, type GatedDelta } from './gated-delta.js';
import { fusedGatedUnit, fusedGatedUnitGradient, rawGatedUnit, rawGatedUnitGradient } from './gated-unit.js';
import { fusedGatheredSum, rawGatheredSum } from './gathered-sum.js';
import { GroupedAttention } from './grouped-attention.js';
import { fusedGroupedProduct, type RowSections, rawGroupedProduct } from './grouped-product.js';
import type { CacheShape, KeyValueCache } from './key-value-cache.js';
import {
  fusedLoraGradient,
  fusedLoraWeights,
  type LoraLayout,
  type LoraWeights,
  rawLoraGradient,
  rawLoraWeights,
} from './lora.js';
import { type LoraMargin, loraMarginOf } from './lora-margin.js';
import {
  fusedLoraBackward,
  fusedLoraForward,
  type LoraGradients,
  type LoraOutput,
  type LoraPart,
  rawLoraBackward,
  rawLoraForward,
} from './lora-products.js';
import { fusedMarginProduct, type MarginWeight, rawMarginProduct } from './margin-weight.js';
import { fusedMergedWeight, type MergedWeight, type MergeSettings, rawMergedWeight } from './merged-weight.js';
import {
  fusedDequantizeRows,
  fusedGroupedPackedProduct,
  fusedQuantizedProduct,
  type PackedMatrix,
  type PackedRows,
  rawDequantizeRows,
  rawGroupedPackedProduct,
  rawQuantizedProduct,
} from './packed-matrix.js';
import { PageCache } from './page-cache.js';
import { cudaAddMatMul, fusedAddMatMul, fusedMatMul, rawAddMatMul, rawMatMul } from './product.js';
import { rawGatedDelta } from './raw-gated-delta.js';
import {
  fusedAddRmsNorm,
  fusedCentred,
  fusedRmsNorm,
  fusedRmsNormGradient,
  type Normed,
  rawAddRmsNorm,
  rawCentred,
  rawRmsNorm,
  rawRmsNormGradient,
  type StreamGradient,
} from './rms-norm.js';
import { fusedSampleTokens, rawSampleTokens } from './sample-tokens.js';
import type { ChosenToken, TokenChoice } from './token-choice.js';
import type { TokenRows } from './token-rows.js';

/** The ops that have several implementations. */
export interface Kernels {
  /**
   * Root mean square norm (Zhang & Sennrich 2019, arXiv:1910.07467): `y = x / rms(x) · w`, in float32.
   * @param x `[tokens, hidden]` float32
   * @param weight `[hidden]` float32
   */
  rmsNorm(x: Tensor, weight: Tensor, epsilon: number, dtype: FloatDType): Normed;
  /**
   * The root mean square norm of `x + branch`.
   * @param x `[tokens, hidden]` float32
   * @param branch `[tokens, hidden]` in the model's dtype
   * @returns also the sum, `[tokens, hidden]` float32
   */
  addRmsNorm(x: Tensor, branch: Tensor, weight: Tensor, epsilon: number): Normed & { sum: Tensor };
  /**
   * Gradient of the root mean square norm by x, plus that of the branch past it: with `n = x / rms(x)` and
   * `g = gradient · w`, the norm's is `(g - n · mean(g · n)) / rms(x)`.
   * @param gradient `[tokens, hidden]` by the norm's output
   * @param residual `[tokens, hidden]` float32; null for none
   */
  rmsNormGradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    inverseRms: Tensor,
    residual: Tensor | null,
  ): StreamGradient;
  /**
   * Each row less its mean, as a layer norm has it (Ba et al. 2016, arXiv:1607.06450). The operation is symmetric, so the gradient is the same operation.
   * @param x `[tokens, size]` float32
   */
  centred(x: Tensor): Tensor;
  /** The activation of each number, computed in float32, in the dtype of x. */
  activation(x: Tensor, activation: Activation): Tensor;
  /**
   * Gradient of {@link activation}.
   * @param gradient by its output, in the dtype of x
   */
  activationGradient(gradient: Tensor, x: Tensor, activation: Activation): Tensor;
  /**
   * A gated linear unit (Shazeer 2020, arXiv:2002.05202): `f(gate) · up`, in float32. SwiGLU is that of `silu`.
   * @param gateUp `[tokens, 2 × intermediate]`: gate, then up
   * @returns `[tokens, intermediate]`
   */
  gatedUnit(gateUp: Tensor, activation: Activation): Tensor;
  /**
   * Gradient of {@link gatedUnit}.
   * @param gradient `[tokens, intermediate]`
   * @returns `[tokens, 2 × intermediate]`
   */
  gatedUnitGradient(gradient: Tensor, gateUp: Tensor, activation: Activation): Tensor;
  /**
   * The gated unit of gpt-oss, `(up + 1) · f(gate)` with `f(x) = x · sigmoid(1.702 x)`, in float32: gates are at most `limit`, and ups
   * within ± `limit`.
   * @param gateUp `[tokens, 2 × intermediate]`: gate and up of each number next to each other
   * @returns `[tokens, intermediate]`
   */
  clampedUnit(gateUp: Tensor, limit: number): Tensor;
  /**
   * Gradient of {@link clampedUnit}: zero by what is clamped.
   * @param gradient `[tokens, intermediate]`
   * @returns `[tokens, 2 × intermediate]`
   */
  clampedUnitGradient(gradient: Tensor, gateUp: Tensor, limit: number): Tensor;
  /**
   * A causal convolution of each channel over the tokens of its row, then silu: `silu(Σ w_j x_{t - taps + 1 + j})`, summed in
   * float32.
   * @param x `[tokens, channels]`
   * @param weight `[channels, taps]` float32
   * @param before `[rows, taps - 1, channels]` in the dtype of x, what each row had before; null: zeros
   * @returns `[tokens, channels]`
   */
  causalConvolution(x: Tensor, weight: Tensor, rows: TokenRows, before: Tensor | null): Tensor;
  /**
   * Gradient of {@link causalConvolution} by x, for rows that had nothing before.
   * @param gradient `[tokens, channels]`
   */
  causalConvolutionGradient(gradient: Tensor, x: Tensor, weight: Tensor, rows: TokenRows): Tensor;
  /**
   * The gated delta rule (Yang et al. 2024, arXiv:2412.06464) within each row, in float32: with queries and keys of length one,
   * β = sigmoid(b) and g = -e^aLog · softplus(a + dtBias), the state S of a head becomes `e^g S`, then `S + k (β (v - Sᵀk))ᵀ`,
   * and the output is `Sᵀq / √keySize`.
   */
  gatedDelta: GatedDelta;
  /**
   * Low-rank adaptation of a group of linear layers (Hu et al. 2021, arXiv:2106.09685) by several adapters, each on its own
   * rows: `base + scale · B A dropout(x)`. An adapter's results depend on nothing of the others.
   * @param base `[tokens, out]` of the frozen layers; the result can be made in its memory, so it must be nobody else's
   * @param x `[tokens, in]`
   * @param parts at least one, in the order of their rows, which do not overlap and are not empty
   */
  loraForward(base: Tensor, x: Tensor, parts: readonly LoraPart[]): LoraOutput;
  /**
   * Gradient of {@link loraForward}.
   * @param gradient `[tokens, out]`
   * @param x `[rows of the parts, in]` as forward had it, without the rows that no adapter acts on
   * @param low as forward gave it
   * @param base `[tokens, in]` gradient by the input of the frozen layers, as in forward; null when that by the input is not
   * wanted
   */
  loraBackward(
    gradient: Tensor,
    x: Tensor,
    low: readonly Tensor[],
    base: Tensor | null,
    parts: readonly LoraPart[],
  ): LoraGradients;
  /** Product with frozen weights that have a margin: of `[tokens, in]` with the transposed ones, or of `[tokens, out]`. */
  marginProduct(a: Tensor, weight: MarginWeight, transposed: boolean): Tensor;
  /**
   * The frozen layers and {@link loraForward} in one, for one adapter on all rows: see isAdaptedAlone.
   * @param x `[tokens, in]`
   */
  adaptedForward(x: Tensor, weight: MarginWeight, part: LoraPart): LoraOutput;
  /**
   * Gradient of {@link adaptedForward}, and of {@link loraForward} for such an adapter.
   * @param gradient `[tokens, out]`
   * @param x `[tokens, in]` as forward had it
   * @param low as forward gave it
   * @param wanted whether that by the input is wanted
   */
  adaptedBackward(
    gradient: Tensor,
    x: Tensor,
    low: readonly Tensor[],
    weight: MarginWeight,
    part: LoraPart,
    wanted: boolean,
  ): LoraGradients;
  /**
   * {@link adaptedForward} with quantized weights, which are decoded to memory with a margin.
   * @param x `[tokens, in]`
   */
  adaptedPackedForward(x: Tensor, weights: PackedMatrix, part: LoraPart): LoraOutput;
  /** Gradient of {@link adaptedPackedForward}, as {@link adaptedBackward}. */
  adaptedPackedBackward(
    gradient: Tensor,
    x: Tensor,
    low: readonly Tensor[],
    weights: PackedMatrix,
    part: LoraPart,
    wanted: boolean,
  ): LoraGradients;
  /**
   * A group's matrices for LoRA's products, of the vector of all parameters.
   * @param parameters `[all]` float32
   */
  loraWeights(parameters: Tensor, layout: LoraLayout, dtype: FloatDType): LoraWeights;
  /**
   * Gradient by a group's parameters, of that by {@link loraWeights}.
   * @param byA `[Σ rank, in]`
   * @param byScaledB `[out, Σ rank]`; what is not on the diagonal is ignored
   * @returns `[parameters of the group]` float32
   */
  loraGradient(byA: Tensor, byScaledB: Tensor, layout: LoraLayout): Tensor;
  /**
   * A group's frozen weight with an adapter merged into it: `W + scale · B A`, computed in float32 and rounded once to the
   * dtype of the base's files, as in the merged download. Where the fused library is in use, it is the same bits.
   * @param base `[out, in]`
   * @param parameters `[all]` float32, as for {@link loraWeights}
   * @param tokens `[tokens, in]` float32
   */
  mergedWeight(base: Tensor, parameters: Tensor, tokens: Tensor, settings: MergeSettings): MergedWeight;
  /**
   * Inverted dropout (Srivastava et al. 2014): each number becomes 0 with the probability `rate`, else it is divided by
   * 1 - rate. Which are dropped follows from the seed and their place.
   * @param rate in 0 … 1, without 1
   * @param seed two integers below 2^31
   */
  dropout(x: Tensor, rate: number, seed: readonly [number, number]): Tensor;
  /**
   * AdamW with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) as torch.optim.AdamW computes it:
   * `p ← p (1 - lr·decay)`, then `p ← p - lr / (1 - β1ᵗ) · m / (√v / √(1 - β2ᵗ) + ε)`. Inputs stay as they are.
   * Moments in 8 bits are decoded, updated and encoded again (Dettmers et al. 2021, arXiv:2110.02861), in blocks of 256.
   * @param gradient `[n]` float32, still to be scaled and clipped
   * @param squareSum `[1]` as {@link squareSum} has it, of the scaled gradient
   */
  adamW(state: AdamWState, gradient: Tensor, squareSum: Tensor, step: AdamWStep): AdamWUpdate;
  /**
   * The square of the Euclidean norm of `factor · x`.
   * @param x `[n]` float32
   * @returns `[1]` float32
   */
  squareSum(x: Tensor, factor: number): Tensor;
  /** Lays out the rows of one batch for attention. */
  batchAttention(rows: AttentionRows): BatchAttention;
  /** Makes an empty cache for generation. */
  keyValueCache(shape: CacheShape): KeyValueCache;
  /**
   * Cross entropy of the label's class and its gradient, computed in float32. A label that is not among the classes is an
   * error; on a GPU its loss and gradient are NaN.
   * @param logits `[n, classes]`
   * @param labels `[n]` int32
   */
  crossEntropy(logits: Tensor, labels: Tensor): CrossEntropy;
  /**
   * The next token of some texts. With the weights `w = exp((logit - greatest logit) / temperature)` of the logits after penalties and
   * of allowed tokens: `topK` keeps as many of the greatest weights; of these `topP` keeps the greatest ones whose sum reaches it
   * (nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751), `minP` those of at least it. Weights as great as the last one are kept
   * with it. The token is the first, in the order of the ids, at which the sum of the kept weights exceeds `draw` times all of theirs.
   *
   * A weight is computed by one polynomial in float32 and rounded down to a multiple of 2^-40, so that sums are exact: every
   * implementation chooses the same token and has the same log-probabilities. A probability differs from the exact one by at most
   * 2^-16 of itself and 2^-40 of the greatest.
   *
   * Only tokens and log-probabilities leave the device.
   * @param logits `[n, vocab]`, at most 2^22 tokens
   * @param choices of each row
   * @returns null where a logit is NaN or infinite, but -infinity, which is never drawn; or where no allowed one is finite
   */
  sampleTokens(logits: Tensor, choices: readonly TokenChoice[]): (ChosenToken | null)[];
  /** See matMul in matrix.ts. */
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
  /** See addMatMul in matrix.ts. */
  addMatMul(addend: Tensor, a: Tensor, b: Tensor, transposeB: boolean): Tensor;
  /**
   * Product of each row with the matrix of its group.
   * @param a `[rows, depth]`
   * @param b `[groups, depth, columns]`, or `[groups, columns, depth]` where it is transposed
   * @param sections the rows of each group
   * @returns `[rows, columns]`
   */
  groupedProduct(a: Tensor, b: Tensor, sections: RowSections, transposed: boolean): Tensor;
  /**
   * {@link groupedProduct} with quantized weights, which are decoded on the way: the same bits as with those of {@link dequantizeRows}.
   * @param weights the matrices of all groups, one below the other: each is `[depth, columns]`, or `[columns, depth]` where it is
   * transposed
   */
  groupedPackedProduct(a: Tensor, weights: PackedRows, sections: RowSections, transposed: boolean): Tensor;
  /**
   * Sums of rows, in float32 and in the order of their places, rounded once. A place where there is no row is an error; on a GPU
   * its sum is NaN.
   * @param x `[rows, width]`
   * @param places `[sums × count]` int32: the rows of each sum
   * @returns `[sums, width]`
   */
  gatheredSum(x: Tensor, places: Tensor, count: number): Tensor;
  /**
   * Product with quantized weights, which are decoded on the way, in the type of a: as {@link matMul} with those of
   * {@link dequantizeRows}. Where the product is fused for processors, it is the same bits.
   * @param a `[m, rows]`, or `[m, columns]` where the weights are transposed
   * @returns `[m, columns]`, or `[m, rows]`
   */
  quantizedProduct(a: Tensor, weights: PackedMatrix, transposed: boolean): Tensor;
  /**
   * Rows of quantized weights, decoded in float32 and rounded once to the dtype. The same bits everywhere.
   * @returns `[count, columns]`
   */
  dequantizeRows(weights: PackedRows, first: number, count: number, dtype: FloatDType): Tensor;
}

/** One implementation of an op, and what it needs. */
interface Implementation<Kernel> {
  kernel: Kernel;
  /** null: runs on any. */
  engines: readonly EngineKind[] | null;
  /** null: computes in any. */
  dtypes: readonly DType[] | null;
  /** Whether a fused library has it; null: it needs none, being made of TensorFlow's own ops. */
  inLibrary: ((instructionSet: InstructionSet) => boolean) | null;
}

const FLOATS: readonly FloatDType[] = ['float32', 'bfloat16'];

/** A fused op that has kernels for processors only, unless `needs` says more. */
function fused<Kernel>(kernel: Kernel, needs?: Partial<Implementation<Kernel>>): Implementation<Kernel> {
  return { kernel, engines: ['cpu'], dtypes: FLOATS, inLibrary: () => true, ...needs };
}

function raw<Kernel>(kernel: Kernel): Implementation<Kernel> {
  return { kernel, engines: null, dtypes: null, inLibrary: null };
}

/** The head sizes that attention is compiled for on a GPU. Any other runs in the next larger one. */
export const HEAD_SIZES: readonly number[] = [64, 80, 96, 128, 256, 512];

/** Needs of a fused op that has CUDA kernels, too. */
const ALSO_CUDA: { engines: readonly EngineKind[] } = { engines: ['cpu', 'cuda'] };

const CUDA: { engines: readonly EngineKind[] } = { engines: ['cuda'] };

type Needs = Pick<Implementation<unknown>, 'dtypes' | 'inLibrary'>;

const FLOAT32_PRODUCT: Needs = {
  dtypes: ['float32'],
  inLibrary: (instructionSet) => instructionSet === 'avx512' || instructionSet === 'avx512bf16',
};

/** Only one library has it. It uses AMX where the processor and Linux allow that. */
const BFLOAT16_PRODUCT: Needs = {
  dtypes: ['bfloat16'],
  inLibrary: (instructionSet) => instructionSet === 'avx512bf16',
};

type AdaptedKernels = Pick<
  Kernels,
  'adaptedForward' | 'adaptedBackward' | 'adaptedPackedForward' | 'adaptedPackedBackward'
>;

/** An adapter beside the product with the frozen weights. */
const plainAdapted: AdaptedKernels = {
  adaptedForward: (...of) => rawAdaptedForward(kernelsFor, ...of),
  adaptedBackward: (...of) => rawAdaptedBackward(kernelsFor, ...of),
  adaptedPackedForward: (...of) => rawAdaptedPackedForward(kernelsFor, ...of),
  adaptedPackedBackward: (...of) => rawAdaptedPackedBackward(kernelsFor, ...of),
};

const fusedAdapted: AdaptedKernels = {
  adaptedForward: fusedAdaptedForward,
  adaptedBackward: fusedAdaptedBackward,
  adaptedPackedForward: (...of) => fusedAdaptedPackedForward(kernelsFor, ...of),
  adaptedPackedBackward: fusedAdaptedPackedBackward,
};

/** An adapter as a part of the product, where {@link KernelOptions.loraMargin} has it so in this pass. */
function adaptedOf(pass: 'forward' | 'backward', { layout }: LoraPart): AdaptedKernels {
  return margin === 'both' || lengthensDepth(pass, layout) ? fusedAdapted : plainAdapted;
}

const partlyFusedAdapted: AdaptedKernels = {
  adaptedForward: (x, weight, part) => adaptedOf('forward', part).adaptedForward(x, weight, part),
  adaptedBackward: (gradient, x, low, weight, part, wanted) =>
    adaptedOf('backward', part).adaptedBackward(gradient, x, low, weight, part, wanted),
  adaptedPackedForward: (x, weights, part) => adaptedOf('forward', part).adaptedPackedForward(x, weights, part),
  adaptedPackedBackward: (gradient, x, low, weights, part, wanted) =>
    adaptedOf('backward', part).adaptedPackedBackward(gradient, x, low, weights, part, wanted),
};

/** Best first: the first that fits the device, the dtype and the library is chosen. The last one fits everywhere. */
const TABLE: { readonly [Op in keyof Kernels]: readonly Implementation<Kernels[Op]>[] } = {
  rmsNorm: [fused(fusedRmsNorm, ALSO_CUDA), raw(rawRmsNorm)],
  addRmsNorm: [fused(fusedAddRmsNorm, ALSO_CUDA), raw(rawAddRmsNorm)],
  rmsNormGradient: [fused(fusedRmsNormGradient, ALSO_CUDA), raw(rawRmsNormGradient)],
  centred: [fused(fusedCentred, { ...ALSO_CUDA, dtypes: ['float32'] }), raw(rawCentred)],
  activation: [fused(fusedActivation, ALSO_CUDA), raw(rawActivation)],
  activationGradient: [fused(fusedActivationGradient, ALSO_CUDA), raw(rawActivationGradient)],
  gatedUnit: [fused(fusedGatedUnit, ALSO_CUDA), raw(rawGatedUnit)],
  gatedUnitGradient: [fused(fusedGatedUnitGradient, ALSO_CUDA), raw(rawGatedUnitGradient)],
  clampedUnit: [fused(fusedClampedUnit, ALSO_CUDA), raw(rawClampedUnit)],
  clampedUnitGradient: [fused(fusedClampedUnitGradient, ALSO_CUDA), raw(rawClampedUnitGradient)],
  causalConvolution: [fused(fusedCausalConvolution, ALSO_CUDA), raw(rawCausalConvolution)],
  causalConvolutionGradient: [fused(fusedCausalConvolutionGradient, ALSO_CUDA), raw(rawCausalConvolutionGradient)],
  gatedDelta: [fused(fusedGatedDelta, ALSO_CUDA), raw(rawGatedDelta)],
  loraForward: [fused(fusedLoraForward, ALSO_CUDA), raw((...of) => rawLoraForward(kernelsFor, ...of))],
  loraBackward: [fused(fusedLoraBackward, ALSO_CUDA), raw((...of) => rawLoraBackward(kernelsFor, ...of))],
  marginProduct: [fused(fusedMarginProduct, CUDA), raw((...of) => rawMarginProduct(kernelsFor, ...of))],
  adaptedForward: [fused(partlyFusedAdapted.adaptedForward, CUDA), raw(plainAdapted.adaptedForward)],
  adaptedBackward: [fused(partlyFusedAdapted.adaptedBackward, CUDA), raw(plainAdapted.adaptedBackward)],
  adaptedPackedForward: [fused(partlyFusedAdapted.adaptedPackedForward, CUDA), raw(plainAdapted.adaptedPackedForward)],
  adaptedPackedBackward: [
    fused(partlyFusedAdapted.adaptedPackedBackward, CUDA),
    raw(plainAdapted.adaptedPackedBackward),
  ],
  loraWeights: [fused(fusedLoraWeights), raw(rawLoraWeights)],
  loraGradient: [fused(fusedLoraGradient), raw(rawLoraGradient)],
  mergedWeight: [fused(fusedMergedWeight, ALSO_CUDA), raw(rawMergedWeight)],
  dropout: [fused(fusedDropout, ALSO_CUDA), raw(rawDropout)],
  adamW: [fused(fusedAdamW, ALSO_CUDA), raw(rawAdamW)],
  squareSum: [fused(fusedSquareSum, ALSO_CUDA), raw(rawSquareSum)],
  batchAttention: [fused(fusedAttention, ALSO_CUDA), raw((rows) => new GroupedAttention(rows))],
  keyValueCache: [fused(fusedCache, ALSO_CUDA), raw((shape) => new PageCache(shape))],
  crossEntropy: [fused(fusedCrossEntropy, ALSO_CUDA), raw(rawCrossEntropy)],
  sampleTokens: [fused(fusedSampleTokens, ALSO_CUDA), raw(rawSampleTokens)],
  matMul: [fused(fusedMatMul, FLOAT32_PRODUCT), fused(fusedMatMul, BFLOAT16_PRODUCT), raw(rawMatMul)],
  addMatMul: [
    fused(fusedAddMatMul, FLOAT32_PRODUCT),
    fused(fusedAddMatMul, BFLOAT16_PRODUCT),
    fused(cudaAddMatMul, { engines: ['cuda'] }),
    raw(rawAddMatMul),
  ],
  groupedProduct: [
    fused(fusedGroupedProduct, FLOAT32_PRODUCT),
    fused(fusedGroupedProduct, BFLOAT16_PRODUCT),
    fused(fusedGroupedProduct, { engines: ['cuda'] }),
    raw((...of) => rawGroupedProduct(kernelsFor, ...of)),
  ],
  groupedPackedProduct: [
    fused(fusedGroupedPackedProduct, FLOAT32_PRODUCT),
    fused(fusedGroupedPackedProduct, BFLOAT16_PRODUCT),
    fused(fusedGroupedPackedProduct, { engines: ['cuda'] }),
    raw((...of) => rawGroupedPackedProduct(kernelsFor, ...of)),
  ],
  gatheredSum: [fused(fusedGatheredSum, ALSO_CUDA), raw(rawGatheredSum)],
  quantizedProduct: [
    fused((...of) => fusedQuantizedProduct(kernelsFor, ...of), FLOAT32_PRODUCT),
    fused((...of) => fusedQuantizedProduct(kernelsFor, ...of), BFLOAT16_PRODUCT),
    fused((...of) => fusedQuantizedProduct(kernelsFor, ...of), { engines: ['cuda'] }),
    raw((...of) => rawQuantizedProduct(kernelsFor, ...of)),
  ],
  dequantizeRows: [fused(fusedDequantizeRows, ALSO_CUDA), raw(rawDequantizeRows)],
};

export interface KernelOptions {
  /** The instruction set of the fused library. @defaultValue the best that the processor runs */
  instructionSet?: InstructionSet | undefined;
  /**
   * Fused kernels that are not to be used, since they compute wrong numbers on this machine: `rmsNorm:bfloat16`, and
   * `batchAttention:bfloat16:80` for one head size that attention is compiled for. @defaultValue none
   */
  avoid?: readonly string[];
  /** The products that an adapter alone is a part of. @defaultValue that of GPU_LORA_MARGIN */
  loraMargin?: LoraMargin;
}

let library: InstructionSet | null = null;
let avoided: ReadonlySet<string> = new Set();
let margin: LoraMargin = 'both';
let chosen = choose();

/**
 * Sets what the table can choose from, for the whole process. Before the first call: TensorFlow's own ops only.
 * @param source `fused`: the compiled ops of native/ where the device, the dtype and the processor allow them; `raw`: TensorFlow's own
 * @returns `cuda`, or the instruction set of the fused library in use; null if there is none: TensorFlow's engine for GPUs, or none was compiled
 * @throws Error if GPU_LORA_MARGIN has a value that is none of its own
 */
export function configureKernels(
  source: 'fused' | 'raw',
  { instructionSet, avoid = [], loraMargin = loraMarginOf(process.env.GPU_LORA_MARGIN) }: KernelOptions = {},
): InstructionSet | 'cuda' | null {
  avoided = new Set(avoid);
  margin = loraMargin;
  library = source === 'raw' || engine.kind === 'tensorflow' ? null : loadFusedLibrary(instructionSet);
  chosen = choose();
  return library !== null && engine.kind === 'cuda' ? 'cuda' : library;
}

/** The implementations for tensors of a dtype on the engine's device. */
export function kernelsFor(dtype: DType): Kernels {
  return chosen[dtype];
}

/** The library whose kernels compute between matrix products: `tensorflow`, `cuda`, or the instruction set of the fused library in use. */
export function kernelsInUse(): InstructionSet | 'cuda' | 'tensorflow' {
  return library !== null && engine.kind === 'cuda' ? 'cuda' : (library ?? 'tensorflow');
}

/**
 * Whether the kernels in use compute each row of a stream by itself: its result is the same bits whatever rows are beside it,
 * and on any number of cores. TensorFlow's products choose how they sum by the number of rows.
 */
export function rowsAreIndependent(dtype: FloatDType): boolean {
  return kernelsFor(dtype).matMul === fusedMatMul;
}

/** True if frozen weights have a margin, for products with an adapter that are faster with it. */
export function weightsHaveMargins(dtype: FloatDType): boolean {
  return kernelsFor(dtype).adaptedForward !== plainAdapted.adaptedForward;
}

/** True if quantized weights are decoded with a margin, for products with an adapter that are faster with it. */
export function decodedHaveMargins(dtype: FloatDType): boolean {
  return kernelsFor(dtype).adaptedPackedForward !== plainAdapted.adaptedPackedForward;
}

function choose(): Record<DType, Kernels> {
  const kernelsOf = (dtype: DType) => {
    const fits = (op: string, one: Implementation<unknown>) =>
      (one.engines?.includes(engine.kind) ?? true) &&
      (one.dtypes?.includes(dtype) ?? true) &&
      (one.inLibrary === null || (library !== null && one.inLibrary(library) && !avoided.has(`${op}:${dtype}`)));
    const chosenOf = (op: string, all: readonly Implementation<unknown>[]) => all.find((one) => fits(op, one))!.kernel;
    const kernels = Object.fromEntries(Object.entries(TABLE).map(([op, all]) => [op, chosenOf(op, all)]));
    return avoidingHeadSizes(kernels as unknown as Kernels, dtype);
  };
  const dtypes = Object.keys(TF_DATA_TYPE) as DType[];
  return Object.fromEntries(dtypes.map((dtype) => [dtype, kernelsOf(dtype)])) as Record<DType, Kernels>;
}

/** Attention that is plain for the head sizes at which the fused kernel is avoided. */
function avoidingHeadSizes(kernels: Kernels, dtype: DType): Kernels {
  const plainSizes = HEAD_SIZES.filter((size) => avoided.has(`batchAttention:${dtype}:${size}`));
  if (plainSizes.length === 0) return kernels;
  const isPlain = (headDim: number) => plainSizes.includes(HEAD_SIZES.find((size) => headDim <= size) ?? headDim);
  const { batchAttention } = kernels;
  return {
    ...kernels,
    batchAttention: (rows) => new AttentionByHeadSize(rows, { isPlain, fused: batchAttention }),
  };
}
