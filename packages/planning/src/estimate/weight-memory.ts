import type { MachineKernels } from '@lorasmith/contracts';
import {
  type DecoderArchitecture,
  type ExpertParameter,
  expertsStayQuantized,
  type LinearLayer,
  layerInputProjection,
  linearGroups,
  type ModelFolder,
  staysQuantized,
} from '@lorasmith/model-folder';
import { bytesPerNumber, sum } from './estimate-memory.js';

type Precision = 'float32' | 'bfloat16';

/**
 * Bytes of a model's frozen weights in memory: quantized weights have the bytes of the files, the others are in the computing type.
 * @param kernels those that multiply them: for the CUDA engine's, linear layers are padded. @defaultValue null: no padding
 */
export function weightMemory(model: ModelFolder, precision: Precision, kernels: MachineKernels | null = null): number {
  const { quantized, parameterCount } = model;
  const packed = quantizedGroups(model).flat();
  const ofExperts = quantizedExperts(model);
  const numbers = quantizedNumbers(packed) + sum(ofExperts.map(numbersOf));
  const names = [
    ...packed.map(({ weight }) => weight),
    ...ofExperts.flatMap(({ tensors }) => tensors.map(({ name }) => name)),
  ];
  // The scales of a weight may be a tensor of their own, of which the weight says the bytes.
  const bytes = sum(names.map((name) => quantized.get(name)?.packedBytes ?? 0));
  const padding = kernels === 'cuda' ? paddingNumbers(model) : 0;
  return Math.ceil(bytes + (parameterCount - numbers + padding) * bytesPerNumber(precision));
}

/** Rows or columns of padding of a weight: PADDING of packages/tensor. */
const CUDA_PADDING = 64;

/** Numbers in the padding of linear layers, which has the matrices of an adapter during its products. */
function paddingNumbers(model: ModelFolder): number {
  const groups = decoderGroups(model).filter((layers) => !staysQuantized(model.quantized, layers));
  return sum(groups.map(paddingOf));
}

/** Numbers in the padding of one group of linear layers. */
function paddingOf(layers: readonly LinearLayer[]): number {
  return CUDA_PADDING * Math.max(layers[0]!.inFeatures, sum(layers.map(({ outFeatures }) => outFeatures)));
}

/** The most bytes that the CUDA engine decodes at a time: MOST_DECODED_BYTES of packages/tensor. */
const CUDA_DECODED_BYTES = 2 ** 28;

/** The kernels whose products decode quantized weights while they pack them, so that nothing is decoded before. */
const DECODING_PRODUCTS: Readonly<Record<Precision, readonly MachineKernels[]>> = {
  float32: ['avx512', 'avx512bf16'],
  bfloat16: ['avx512bf16'],
};

/** Bytes of the largest quantized weights that are decoded for one product; on the CUDA engine, for one launch, with the padding for an adapter. */
export function decodedMemory(model: ModelFolder, precision: Precision, kernels: MachineKernels): number {
  if (DECODING_PRODUCTS[precision].includes(kernels)) return 0;
  const width = bytesPerNumber(precision);
  const paddingIn = kernels === 'cuda' ? paddingOf : () => 0;
  const ofLayers = quantizedGroups(model).map((layers) => {
    const bytes = width * (quantizedNumbers(layers) + paddingIn(layers));
    return kernels === 'cuda' ? Math.min(bytes, CUDA_DECODED_BYTES) : bytes;
  });
  const ofExperts = quantizedExperts(model).map((parameter) => {
    const bytes = (width * numbersOf(parameter)) / parameter.experts;
    return kernels === 'cuda' ? bytes * cudaExpertsAtOnce(bytes, parameter.experts) : bytes;
  });
  return Math.max(0, ...ofLayers, ...ofExperts);
}

/** The most experts that the CUDA engine decodes at a time. @param bytes of one, decoded */
function cudaExpertsAtOnce(bytes: number, experts: number): number {
  return Math.min(experts, Math.max(1, Math.floor(CUDA_DECODED_BYTES / bytes)));
}

/** Bytes of the frozen weights that a pass reads, as if all were in the computing type. */
export interface WeightTraffic {
  ofLayers: number;
  /** Bytes of the head, which each chunk of logits reads. */
  ofHead: number;
}

/** The time of decoding weights, as a share of the time of reading them in the computing type. */
const DECODING = 1;

export function weightTraffic(model: ModelFolder, precision: Precision): WeightTraffic {
  const architecture = model.architecture as DecoderArchitecture;
  const { vocabSize, hiddenSize } = architecture;
  const ofModules = model.modules.reduce((sum, module) => sum + module.in_features * module.out_features, 0);
  // The tokens of a pass reach nearly all experts.
  const ofExperts = sum([...model.expertParameters.values()].map(numbersOf));
  const decoded = quantizedNumbers(quantizedGroups(model).flat()) + sum(quantizedExperts(model).map(numbersOf));
  const width = bytesPerNumber(precision);
  return { ofLayers: (ofModules + ofExperts + DECODING * decoded) * width, ofHead: vocabSize * hiddenSize * width };
}

/** The parameters of experts that stay quantized in memory. */
function quantizedExperts({ quantized, expertParameters }: ModelFolder): ExpertParameter[] {
  return [...expertParameters.values()].filter((parameter) => expertsStayQuantized(quantized, parameter));
}

function numbersOf({ experts, outFeatures, inFeatures }: ExpertParameter): number {
  return experts * outFeatures * inFeatures;
}

function quantizedNumbers(layers: readonly LinearLayer[]): number {
  return layers.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0);
}

/** The groups of linear layers that stay quantized in memory. */
function quantizedGroups(model: ModelFolder): LinearLayer[][] {
  if (model.quantized.size === 0) return [];
  return decoderGroups(model).filter((layers) => staysQuantized(model.quantized, layers));
}

function decoderGroups({ architecture }: Pick<ModelFolder, 'architecture'>): LinearLayer[][] {
  if (architecture.kind !== 'decoder') return [];
  const ofLayers = Array.from({ length: architecture.layerCount }, (_, index) => linearGroups(architecture, index));
  const projection = layerInputProjection(architecture);
  return projection === null ? ofLayers.flat() : [[projection], ...ofLayers.flat()];
}
