import { checkScales, type FourBitWeight, type MadeWeight, type StoredWeight } from '@lorasmith/model-folder';
import {
  bytesAsFloat32,
  QuantizedMatrix,
  type QuantizedModule,
  scope,
  type Tensor,
  toFloat32Array,
} from '@lorasmith/tensor';
import { NF4_VALUES, quantizeScales, SCALE_VALUES } from '@lorasmith/weight-io';
import { type ReadPacked, type TensorReading, total } from './tensor-reading.js';

/** The parts of a {@link QuantizedMatrix}. */
interface QuantizedParts {
  modules: QuantizedModule[];
  codes: Tensor;
  scales: Tensor;
  nestedScales: Tensor | null;
}

const codeBytes = ({ shape: [rows, columns] }: FourBitWeight) => Math.ceil((rows * columns) / 2);
const scaleCount = (weight: FourBitWeight) => weight.scaleCount;
const nestedScaleCount = (weight: FourBitWeight) => weight.nestedScaleCount;

/** Weights that the files have in 4 bits. */
export const readStored: ReadPacked<StoredWeight, QuantizedMatrix> = async (reading, names, weights) => {
  const { isNested } = weights[0]!;
  const scaleNames = weights.map(({ scales }) => scales);
  const [codes, scales, nestedScales] = await Promise.all([
    reading.filled(names, { dtype: 'U8', tensorDtype: 'uint8', shape: [total(weights, codeBytes)] }),
    isNested
      ? reading.filled(scaleNames, { dtype: 'U8', tensorDtype: 'uint8', shape: [total(weights, scaleCount)] })
      : reading.filled(scaleNames, { dtype: 'F32', tensorDtype: 'uint8', shape: [total(weights, scaleCount), 4] }),
    isNested
      ? reading.filled(
          weights.map(({ nested }) => nested!.scales),
          { dtype: 'F32', tensorDtype: 'float32', shape: [total(weights, nestedScaleCount)] },
        )
      : null,
  ]);
  const modules = weights.map(({ shape: [rows], values, nested }) => ({ rows, values, nested }));
  return matrixOf(reading, names, weights, { modules, codes, scales, nestedScales });
};

/** Weights that are quantized as they are read. */
export const readMade: ReadPacked<MadeWeight, QuantizedMatrix> = async (reading, names, weights) => {
  // Each matrix of a tensor is quantized by itself.
  const matrices = weights.flatMap((weight) => Array.from({ length: weight.matrices ?? 1 }, () => weight));
  const { own, scales } = await reading.read(names, 'NF4');
  const codes = reading.adopted(own, [total(matrices, codeBytes)], 'uint8');
  const { codes: scaleCodes, nested, offsets } = await quantizeScales(scales!, matrices.map(scaleCount));
  return matrixOf(reading, names, weights, {
    modules: matrices.map(({ shape: [rows] }, i) => {
      return { rows, values: NF4_VALUES, nested: { values: SCALE_VALUES, offset: offsets[i]! } };
    }),
    codes,
    scales: reading.adopted(scaleCodes, [total(matrices, scaleCount)], 'uint8'),
    nestedScales: reading.adopted(nested, [total(matrices, nestedScaleCount)], 'float32'),
  });
};

/** @throws ProductError model_file_corrupt for a scale that is no number, or a number that is not finite */
function matrixOf(
  { folder, give }: TensorReading,
  names: readonly string[],
  weights: readonly FourBitWeight[],
  { modules, ...tensors }: QuantizedParts,
): QuantizedMatrix {
  const { scales, nestedScales } = tensors;
  const read = scope(() => toFloat32Array(nestedScales ?? bytesAsFloat32(scales)));
  checkScales(folder, names, weights, read);
  const matrix = new QuantizedMatrix(weights[0]!.shape[1], modules, tensors);
  give(matrix.table);
  return matrix;
}
