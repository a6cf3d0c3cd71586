import type { Fp8Weight } from '@lorasmith/model-folder';
import { ScaledMatrix } from '@lorasmith/tensor';
import { type ReadPacked, total } from './tensor-reading.js';

/** Weights in 8 bits. */
export const readFp8: ReadPacked<Fp8Weight, ScaledMatrix> = async ({ filled, give }, names, weights) => {
  const { columns, block } = weights[0]!.decodedBy;
  const codes = await filled(names, {
    ...{ dtype: 'U8', tensorDtype: 'uint8' },
    shape: [total(weights, ({ shape: [rows] }) => rows * columns)],
  });
  const modules = weights.map(({ shape: [rows], decodedBy }) => {
    return { rows, blockRows: decodedBy.block[0], scales: decodedBy.scales };
  });
  const matrix = new ScaledMatrix(columns, block[1], modules, codes);
  give(matrix.scales);
  give(matrix.bands);
  return matrix;
};
