import type { Fp8Weight } from '@lorasmith/model-folder';
import { ScaledMatrix } from '@lorasmith/tensor';
import { filled, made } from '../loading/listed.js';
import { type ListPacked, total } from './packed-format.js';

/** Weights in 8 bits. */
export const listFp8: ListPacked<Fp8Weight, ScaledMatrix> = (_folder, names, weights) => {
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
