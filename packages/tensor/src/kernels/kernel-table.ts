import { type EngineKind, engine } from '../binding.js';
import { type DType, type FloatDType, type Tensor, TF_DATA_TYPE } from '../tensor.js';
import { fusedActivation, fusedActivationGradient, rawActivation, rawActivationGradient } from './activation.js';
import { fusedAdamW, fusedSquareSum, rawAdamW, rawSquareSum } from './adamw.js';
import {
  fusedAdaptedBackward,
  fusedAdaptedForward,
  fusedAdaptedPackedBackward,
  fusedAdaptedPackedForward,
  fusedPaddedProduct,
  type LoraPadding,
  lengthensDepth,
  loraPaddingOf,
  rawAdaptedBackward,
  rawAdaptedForward,
  rawAdaptedPackedBackward,
  rawAdaptedPackedForward,
  rawPaddedProduct,
} from './adapted-product.js';
import {
  fusedCausalConvolution,
  fusedCausalConvolutionGradient,
  rawCausalConvolution,
  rawCausalConvolutionGradient,
} from './causal-convolution.js';
import { fusedCrossEntropy, rawCrossEntropy } from './cross-entropy.js';
import { fusedDropout, rawDropout } from './dropout.js';
import { AttentionByHeadSize, fusedAttention } from './fused-attention.js';
import { type InstructionSet, loadFusedLibrary } from './fused-library.js';
import { fusedGatedDelta, rawGatedDelta } from './gated-delta.js';
import {
  fusedClampedUnit,
  fusedClampedUnitGradient,
  fusedGatedUnit,
  fusedGatedUnitGradient,
  rawClampedUnit,
  rawClampedUnitGradient,
  rawGatedUnit,
  rawGatedUnitGradient,
} from './gated-unit.js';
import { GroupedAttention } from './grouped-attention.js';
import { fusedGatheredSum, fusedGroupedProduct, rawGatheredSum, rawGroupedProduct } from './grouped-product.js';
import type { Kernels } from './kernels.js';
import { fusedCache, PageCache } from './key-value-cache.js';
import {
  fusedLoraBackward,
  fusedLoraForward,
  fusedLoraGradient,
  fusedLoraWeights,
  type LoraPart,
  rawLoraBackward,
  rawLoraForward,
  rawLoraGradient,
  rawLoraWeights,
} from './lora.js';
import { fusedMergedWeight, rawMergedWeight } from './merged-weight.js';
import {
  fusedDequantizeRows,
  fusedGroupedPackedProduct,
  fusedQuantizedProduct,
  rawDequantizeRows,
  rawGroupedPackedProduct,
  rawQuantizedProduct,
} from './packed-matrix.js';
import { cudaAddMatMul, fusedAddMatMul, fusedMatMul, rawAddMatMul, rawMatMul } from './product.js';
import {
  fusedAddRmsNorm,
  fusedCentred,
  fusedRmsNorm,
  fusedRmsNormGradient,
  rawAddRmsNorm,
  rawCentred,
  rawRmsNorm,
  rawRmsNormGradient,
} from './rms-norm.js';
import { fusedSampleTokens, rawSampleTokens } from './sample-tokens.js';

/** One implementation of an op, and what it needs. */
interface Implementation<Kernel> {
  kernel: Kernel;
  /** null: runs on any. */
  engines: readonly EngineKind[] | null;
  /** null: computes in any. */
  dtypes: readonly DType[] | null;
  /** True if a fused library has it; null: it needs none, being made of TensorFlow's own ops. */
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

/** An adapter whose products are separate from that with the frozen weights. */
function adaptedSeparately(kernelsFor: KernelsFor): AdaptedKernels {
  return {
    adaptedForward: (...of) => rawAdaptedForward(kernelsFor, ...of),
    adaptedBackward: (...of) => rawAdaptedBackward(kernelsFor, ...of),
    adaptedPackedForward: (...of) => rawAdaptedPackedForward(kernelsFor, ...of),
    adaptedPackedBackward: (...of) => rawAdaptedPackedBackward(kernelsFor, ...of),
  };
}

/** An adapter as a part of the product, in the passes where `padding` has it so; in others its products are separate ones. */
function adaptedAsPart(kernelsFor: KernelsFor, padding: LoraPadding, separately: AdaptedKernels): AdaptedKernels {
  const fusedAdapted: AdaptedKernels = {
    adaptedForward: fusedAdaptedForward,
    adaptedBackward: fusedAdaptedBackward,
    adaptedPackedForward: (...of) => fusedAdaptedPackedForward(kernelsFor, ...of),
    adaptedPackedBackward: fusedAdaptedPackedBackward,
  };
  const inPass = (pass: 'forward' | 'backward', { layout }: LoraPart) =>
    padding === 'both' || lengthensDepth(pass, layout) ? fusedAdapted : separately;
  return {
    adaptedForward: (x, weight, part) => inPass('forward', part).adaptedForward(x, weight, part),
    adaptedBackward: (gradient, x, low, weight, part, wanted) =>
      inPass('backward', part).adaptedBackward(gradient, x, low, weight, part, wanted),
    adaptedPackedForward: (x, weights, part) => inPass('forward', part).adaptedPackedForward(x, weights, part),
    adaptedPackedBackward: (gradient, x, low, weights, part, wanted) =>
      inPass('backward', part).adaptedPackedBackward(gradient, x, low, weights, part, wanted),
  };
}

/** The kernels of a set, for those that are made of others. */
type KernelsFor = (dtype: DType) => Kernels;

type KernelTable = { readonly [Op in keyof Kernels]: readonly Implementation<Kernels[Op]>[] };

/** The implementations of each op, best first: the first that fits the device, the dtype and the library is chosen. The last one fits everywhere. */
function kernelTable(kernelsFor: KernelsFor, separately: AdaptedKernels, asPart: AdaptedKernels): KernelTable {
  return {
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
    paddedProduct: [fused(fusedPaddedProduct, CUDA), raw((...of) => rawPaddedProduct(kernelsFor, ...of))],
    adaptedForward: [fused(asPart.adaptedForward, CUDA), raw(separately.adaptedForward)],
    adaptedBackward: [fused(asPart.adaptedBackward, CUDA), raw(separately.adaptedBackward)],
    adaptedPackedForward: [fused(asPart.adaptedPackedForward, CUDA), raw(separately.adaptedPackedForward)],
    adaptedPackedBackward: [fused(asPart.adaptedPackedBackward, CUDA), raw(separately.adaptedPackedBackward)],
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
}

export interface KernelOptions {
  /** The instruction set of the fused library. A process can load one. @defaultValue the best that the processor runs */
  instructionSet?: InstructionSet | undefined;
  /**
   * Fused kernels that are not to be used, since they compute wrong numbers on this machine: `rmsNorm:bfloat16`, and
   * `batchAttention:bfloat16:80` for one head size that attention is compiled for. @defaultValue none
   */
  avoid?: readonly string[];
  /** The products that an adapter alone is a part of. @defaultValue that of GPU_LORA_PADDING */
  loraPadding?: LoraPadding;
}

/** The implementations that a model computes with, for each dtype. They are chosen when a process starts, and handed to what computes. */
export class KernelSet {
  /** The library whose kernels compute between matrix products: `tensorflow`, `cuda`, or the instruction set of the fused library. */
  readonly library: InstructionSet | 'cuda' | 'tensorflow';
  readonly #chosen: Record<DType, Kernels>;
  readonly #adaptedSeparately: AdaptedKernels;

  /** @param library null: TensorFlow's own ops alone */
  constructor(library: InstructionSet | null, avoided: ReadonlySet<string>, padding: LoraPadding) {
    this.library = library !== null && engine.kind === 'cuda' ? 'cuda' : (library ?? 'tensorflow');
    const kernelsFor = (dtype: DType) => this.of(dtype);
    this.#adaptedSeparately = adaptedSeparately(kernelsFor);
    const asPart = adaptedAsPart(kernelsFor, padding, this.#adaptedSeparately);
    this.#chosen = chosenOf(kernelTable(kernelsFor, this.#adaptedSeparately, asPart), library, avoided);
  }

  /** The implementations for tensors of a dtype. */
  of(dtype: DType): Kernels {
    return this.#chosen[dtype];
  }

  /**
   * Product of two matrices. In bfloat16 the sums are float32 and rounded once at the end.
   * @param a `[m, k]`, or `[k, m]` with `transposeA`
   * @param b `[k, n]`, or `[n, k]` with `transposeB`
   * @returns `[m, n]`
   */
  matMul(a: Tensor, b: Tensor, options: { transposeA?: boolean; transposeB?: boolean } = {}): Tensor {
    return this.of(a.dtype).matMul(a, b, options.transposeA ?? false, options.transposeB ?? false);
  }

  /**
   * `addend + a b`, rounded once where the kernel can.
   * @param addend `[m, n]`
   * @param a `[m, k]`
   * @param b `[k, n]`, or `[n, k]` with `transposeB`
   */
  addMatMul(addend: Tensor, a: Tensor, b: Tensor, options: { transposeB?: boolean } = {}): Tensor {
    return this.of(a.dtype).addMatMul(addend, a, b, options.transposeB ?? false);
  }

  /**
   * True if each row of a stream is computed by itself: its result is the same bits whatever rows are beside it, and on any number of
   * cores. TensorFlow's products choose how they sum by the number of rows.
   */
  rowsAreIndependent(dtype: FloatDType): boolean {
    return this.of(dtype).matMul === fusedMatMul;
  }

  /** True if frozen weights have padding, for products with an adapter that are faster with it. */
  weightsArePadded(dtype: FloatDType): boolean {
    return this.of(dtype).adaptedForward !== this.#adaptedSeparately.adaptedForward;
  }

  /** True if quantized weights are decoded with padding, for products with an adapter that are faster with it. */
  decodedArePadded(dtype: FloatDType): boolean {
    return this.of(dtype).adaptedPackedForward !== this.#adaptedSeparately.adaptedPackedForward;
  }
}

/**
 * The kernels of this process.
 * @param source `fused`: the compiled ops of native/ where the device, the dtype and the processor allow them; where none were compiled,
 *   and on TensorFlow's engine for GPUs, there are none. `raw`: TensorFlow's own
 * @throws Error if GPU_LORA_PADDING has a value that is none of its own
 */
export function chooseKernels(
  source: 'fused' | 'raw',
  { instructionSet, avoid = [], loraPadding = loraPaddingOf(process.env.GPU_LORA_PADDING) }: KernelOptions = {},
): KernelSet {
  const library = source === 'raw' || engine.kind === 'tensorflow' ? null : loadFusedLibrary(instructionSet);
  return new KernelSet(library, new Set(avoid), loraPadding);
}

function chosenOf(
  table: KernelTable,
  library: InstructionSet | null,
  avoided: ReadonlySet<string>,
): Record<DType, Kernels> {
  const kernelsOf = (dtype: DType) => {
    const fits = (op: string, one: Implementation<unknown>) =>
      (one.engines?.includes(engine.kind) ?? true) &&
      (one.dtypes?.includes(dtype) ?? true) &&
      (one.inLibrary === null || (library !== null && one.inLibrary(library) && !avoided.has(`${op}:${dtype}`)));
    const firstOf = (op: string, all: readonly Implementation<unknown>[]) => all.find((one) => fits(op, one))!.kernel;
    const kernels = Object.fromEntries(Object.entries(table).map(([op, all]) => [op, firstOf(op, all)]));
    return avoidingHeadSizes(kernels as unknown as Kernels, dtype, avoided);
  };
  const dtypes = Object.keys(TF_DATA_TYPE) as DType[];
  return Object.fromEntries(dtypes.map((dtype) => [dtype, kernelsOf(dtype)])) as Record<DType, Kernels>;
}

/** Attention that is plain for the head sizes at which the fused kernel is avoided. */
function avoidingHeadSizes(kernels: Kernels, dtype: DType, avoided: ReadonlySet<string>): Kernels {
  const plainSizes = HEAD_SIZES.filter((size) => avoided.has(`batchAttention:${dtype}:${size}`));
  if (plainSizes.length === 0) return kernels;
  const isPlain = (headDim: number) => plainSizes.includes(HEAD_SIZES.find((size) => headDim <= size) ?? headDim);
  const { batchAttention } = kernels;
  return {
    ...kernels,
    batchAttention: (rows) => new AttentionByHeadSize(rows, { isPlain, fused: batchAttention }),
  };
}
