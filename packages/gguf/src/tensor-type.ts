import { toFloat32 } from '@lorasmith/safetensors';
import {
  type Dequantize,
  dequantizeMXFP4,
  dequantizeQ4_0,
  dequantizeQ4_1,
  dequantizeQ5_0,
  dequantizeQ5_1,
  dequantizeQ8_0,
} from './dequantize-32.js';
import { dequantizeQ4_K, dequantizeQ5_K, dequantizeQ6_K } from './dequantize-k.js';

/** A supported tensor type of GGUF. */
export interface TensorType {
  name: string;
  /** The number of weights in a block. A row is a whole number of blocks. */
  blockWeights: number;
  blockBytes: number;
  dequantize: Dequantize;
}

const plain = (dtype: 'F32' | 'F16' | 'BF16'): Dequantize => {
  return (bytes, values) => values.set(toFloat32(bytes, dtype));
};

/** The supported types by their number in the file (`enum ggml_type`). */
export const TENSOR_TYPES: ReadonlyMap<number, TensorType> = new Map([
  [0, { name: 'F32', blockWeights: 1, blockBytes: 4, dequantize: plain('F32') }],
  [1, { name: 'F16', blockWeights: 1, blockBytes: 2, dequantize: plain('F16') }],
  [2, { name: 'Q4_0', blockWeights: 32, blockBytes: 18, dequantize: dequantizeQ4_0 }],
  [3, { name: 'Q4_1', blockWeights: 32, blockBytes: 20, dequantize: dequantizeQ4_1 }],
  [6, { name: 'Q5_0', blockWeights: 32, blockBytes: 22, dequantize: dequantizeQ5_0 }],
  [7, { name: 'Q5_1', blockWeights: 32, blockBytes: 24, dequantize: dequantizeQ5_1 }],
  [8, { name: 'Q8_0', blockWeights: 32, blockBytes: 34, dequantize: dequantizeQ8_0 }],
  [12, { name: 'Q4_K', blockWeights: 256, blockBytes: 144, dequantize: dequantizeQ4_K }],
  [13, { name: 'Q5_K', blockWeights: 256, blockBytes: 176, dequantize: dequantizeQ5_K }],
  [14, { name: 'Q6_K', blockWeights: 256, blockBytes: 210, dequantize: dequantizeQ6_K }],
  [30, { name: 'BF16', blockWeights: 1, blockBytes: 2, dequantize: plain('BF16') }],
  [39, { name: 'MXFP4', blockWeights: 32, blockBytes: 17, dequantize: dequantizeMXFP4 }],
]);

/** The names of unsupported types, for error messages. */
const OTHER_TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [9, 'Q8_1'],
  [10, 'Q2_K'],
  [11, 'Q3_K'],
  [15, 'Q8_K'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [20, 'IQ4_NL'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [23, 'IQ4_XS'],
  [24, 'I8'],
  [25, 'I16'],
  [26, 'I32'],
  [27, 'I64'],
  [28, 'F64'],
  [29, 'IQ1_M'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
]);

export function tensorTypeName(type: number): string {
  return TENSOR_TYPES.get(type)?.name ?? OTHER_TYPE_NAMES.get(type) ?? `number ${type}`;
}
