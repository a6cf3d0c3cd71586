import {
  checkScales,
  type FourBitWeight,
  type ModelFolder,
  type QuantizedOnLoad,
  type StoredWeight,
} from '@lorasmith/model-folder';
import {
  bytesAsFloat32,
  QuantizedMatrix,
  type QuantizedModule,
  scope,
  type Tensor,
  toFloat32Array,
} from '@lorasmith/tensor';
import { NF4_VALUES, quantizeScales, SCALE_VALUES } from '@lorasmith/weight-files';
import { adopted, filled, made, type Reading, regionOf } from '../loading/listed.js';
import { type ListPacked, total } from './packed-format.js';

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
export const listStored: ListPacked<StoredWeight, QuantizedMatrix> = (folder, names, weights) => {
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
export const listQuantizedOnLoad: ListPacked<QuantizedOnLoad, QuantizedMatrix> = (folder, names, weights) => {
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
