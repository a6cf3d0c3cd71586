import {
  checkMxfp4Scales,
  checkScales,
  type FourBitWeight,
  type Fp8Weight,
  locateTensor,
  type MadeWeight,
  type ModelFolder,
  type Mxfp4Weight,
  type QuantizedWeight,
  type StoredWeight,
  type WeightReader,
} from '@lorasmith/model-folder';
import {
  bytesAsFloat32,
  Mxfp4Matrices,
  type PackedRows,
  QuantizedMatrix,
  type QuantizedModule,
  ScaledMatrix,
  scope,
  type Tensor,
  toFloat32Array,
} from '@lorasmith/tensor';
import { NF4_VALUES, quantizeScales, SCALE_VALUES } from '@lorasmith/weight-files';
import { adopted, filled, made, type ReadItem, type Reading, regionOf } from './listed.js';

/** Weights of one format as one matrix, one weight below the other. @param names of the tensors of their numbers */
type ListPacked<Weight, Packed extends PackedRows> = (
  folder: ModelFolder,
  names: readonly string[],
  weights: readonly Weight[],
) => ReadItem<Packed>;

/** A count of all weights. */
function total<Weight>(weights: readonly Weight[], countOf: (weight: Weight) => number): number {
  return weights.reduce((sum, weight) => sum + countOf(weight), 0);
}

/** The tensors of a {@link QuantizedMatrix}. */
interface QuantizedTensors {
  codes: Tensor;
  scales: Tensor;
  nestedScales: Tensor | null;
}

const codeBytes = ({ shape: [rows, columns] }: FourBitWeight) => Math.ceil((rows * columns) / 2);
const scaleCount = (weight: FourBitWeight) => weight.scaleCount;
const nestedScaleCount = (weight: FourBitWeight) => weight.nestedScaleCount;

/** Weights that the files have in 4 bits. */
const listStored: ListPacked<StoredWeight, QuantizedMatrix> = (folder, names, weights) => {
  const { isNested } = weights[0]!;
  const scaleNames = weights.map(({ scales }) => scales);
  const scales = isNested
    ? filled(scaleNames, { dtype: 'U8', tensorDtype: 'uint8', shape: [total(weights, scaleCount)] })
    : filled(scaleNames, { dtype: 'F32', tensorDtype: 'uint8', shape: [total(weights, scaleCount), 4] });
  const codes = filled(names, { dtype: 'U8', tensorDtype: 'uint8', shape: [total(weights, codeBytes)] });
  const nestedScales = isNested
    ? filled(
        weights.map(({ nested }) => nested!.scales),
        { dtype: 'F32', tensorDtype: 'float32', shape: [total(weights, nestedScaleCount)] },
      )
    : null;
  const modules = weights.map(({ shape: [rows], values, nested }) => ({ rows, values, nested }));
  return made({ codes, scales, nestedScales }, (tensors, give) => {
    return matrixOf(folder, names, weights, modules, tensors, give);
  });
};

/** Weights that are quantized as they are read. */
const listMade: ListPacked<MadeWeight, QuantizedMatrix> = (folder, names, weights) => {
  // Each matrix of a tensor is quantized by itself.
  const matrices = weights.flatMap((weight) => Array.from({ length: weight.matrices ?? 1 }, () => weight));
  return made({ region: regionOf(names, 'NF4') }, async ({ region }, give) => {
    const codes = give(adopted(region.own, [total(matrices, codeBytes)], 'uint8'));
    const quantized = await quantizeScales(region.scales!, matrices.map(scaleCount));
    const scales = give(adopted(quantized.codes, [total(matrices, scaleCount)], 'uint8'));
    const nestedScales = give(adopted(quantized.nested, [total(matrices, nestedScaleCount)], 'float32'));
    const modules = matrices.map(({ shape: [rows] }, i) => {
      return { rows, values: NF4_VALUES, nested: { values: SCALE_VALUES, offset: quantized.offsets[i]! } };
    });
    return matrixOf(folder, names, weights, modules, { codes, scales, nestedScales }, give);
  });
};

/** @throws ProductError model_file_corrupt for a scale that is no number, or a number that is not finite */
function matrixOf(
  folder: ModelFolder,
  names: readonly string[],
  weights: readonly FourBitWeight[],
  modules: QuantizedModule[],
  tensors: QuantizedTensors,
  give: Reading['give'],
): QuantizedMatrix {
  const { scales, nestedScales } = tensors;
  const read = scope(() => toFloat32Array(nestedScales ?? bytesAsFloat32(scales)));
  checkScales(folder, names, weights, read);
  const matrix = new QuantizedMatrix(weights[0]!.shape[1], modules, tensors);
  give(matrix.table);
  return matrix;
}

/** Weights in 8 bits. */
const listFp8: ListPacked<Fp8Weight, ScaledMatrix> = (_folder, names, weights) => {
  const { columns, block } = weights[0]!.decodedBy;
  const shape = [total(weights, ({ shape: [rows] }) => rows * columns)];
  const modules = weights.map(({ shape: [rows], decodedBy }) => {
    return { rows, blockRows: decodedBy.block[0], scales: decodedBy.scales };
  });
  return made({ codes: filled(names, { dtype: 'U8', tensorDtype: 'uint8', shape }) }, ({ codes }, give) => {
    const matrix = new ScaledMatrix(columns, block[1], modules, codes);
    give(matrix.scales);
    give(matrix.bands);
    return matrix;
  });
};

/** The weights of a parameter of experts in MXFP4. */
const listMxfp4: ListPacked<Mxfp4Weight, Mxfp4Matrices> = (folder, [name], [weight]) => {
  const bytes = (part: string) => {
    const { byteLength } = locateTensor(folder, part).entry;
    return filled([part], { dtype: 'U8', tensorDtype: 'uint8', shape: [byteLength] });
  };
  const { shape, parts } = weight!;
  return made({ codes: bytes(name!), scales: bytes(parts[0]) }, ({ codes, scales }) => {
    checkMxfp4Scales(folder, parts[0], toFloat32Array(scales));
    return new Mxfp4Matrices(shape, codes, scales);
  });
};

/** The reader of each format: a format that is added has a file in this folder, and a line here. */
const READERS: { readonly [Reader in WeightReader]: unknown } = {
  'stored-4-bit': listStored,
  'made-4-bit': listMade,
  fp8: listFp8,
  mxfp4: listMxfp4,
};

/**
 * Quantized weights of one format as they stay in memory, one below the other.
 * @param names of the tensors of their numbers
 * @throws ProductError model_file_corrupt, when they are read, for a scale that is no number, or too large
 */
export function listPacked<Packed extends PackedRows>(
  folder: ModelFolder,
  names: readonly string[],
  weights: readonly QuantizedWeight[],
): ReadItem<Packed> {
  // Each reads weights of its own class alone.
  const list = READERS[weights[0]!.reader] as ListPacked<QuantizedWeight, Packed>;
  return list(folder, names, weights);
}
