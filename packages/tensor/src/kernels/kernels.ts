import type { FloatDType, Tensor } from '../tensor.js';
import type { Activation } from './activation.js';
import type { AdamWState, AdamWStep, AdamWUpdate } from './adamw.js';
import type { PaddedWeight } from './adapted-product.js';
import type { AttentionRows, BatchAttention } from './attention.js';
import type { CrossEntropy } from './cross-entropy.js';
import type { GatedDelta } from './gated-delta.js';
import type { RowSections } from './grouped-product.js';
import type { CacheShape, KeyValueCache } from './key-value-cache.js';
import type { LoraGradients, LoraLayout, LoraOutput, LoraPart, LoraWeights } from './lora.js';
import type { MergedWeight, MergeSettings } from './merged-weight.js';
import type { PackedMatrix, PackedRows } from './packed-matrix.js';
import type { Normed, StreamGradient } from './rms-norm.js';
import type { ChosenToken, TokenChoice } from './sample-tokens.js';
import type { TokenRows } from './token-rows.js';

/** The ops that have several implementations, for tensors of one dtype. */
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
  /** Product with frozen weights that have padding: of `[tokens, in]` with the transposed ones, or of `[tokens, out]`. */
  paddedProduct(a: Tensor, weight: PaddedWeight, transposed: boolean): Tensor;
  /**
   * The frozen layers and {@link loraForward} in one, for one adapter on all rows: see isAdaptedAlone.
   * @param x `[tokens, in]`
   */
  adaptedForward(x: Tensor, weight: PaddedWeight, part: LoraPart): LoraOutput;
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
    weight: PaddedWeight,
    part: LoraPart,
    wanted: boolean,
  ): LoraGradients;
  /**
   * {@link adaptedForward} with quantized weights, which are decoded to memory with padding.
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
  /** See {@link KernelSet.matMul}. */
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
  /** See {@link KernelSet.addMatMul}. */
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
