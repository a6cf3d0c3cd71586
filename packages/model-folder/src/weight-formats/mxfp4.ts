import { ProductError } from '@lorasmith/contracts';
import type { StoredTensor } from '@lorasmith/weight-files';
import { modelFileLabel } from '../config/json-file.js';
import type { RequiredTensor } from '../families/family.js';
import {
  equalPart,
  INSTEAD,
  inBfloat16,
  type QuantizedWeight,
  type TensorFiles,
  type TensorLocation,
  type WeightFormat,
} from './quantized-weight.js';

// Weights of experts in MXFP4 (OCP Microscaling Formats 1.0, arXiv:2310.10537), as gpt-oss is published: numbers of 4 bits (E2M1), two
// in a byte, the first in the lower half; each 32 of a row have a scale, a power of two in a byte (E8M0).

/** Numbers that share a scale. */
export const MXFP4_BLOCK = 32;

const CODES = '_blocks';
const SCALES = '_scales';

/** The scale of 2^125: six times this is the largest number of E2M1, and still finite in bfloat16. */
const GREATEST_SCALE = 252;

/** The weights of a parameter of experts. */
export class Mxfp4Weight implements QuantizedWeight {
  readonly reader = 'mxfp4';
  readonly type = 'mxfp4';
  readonly matrices = null;
  readonly packing = 'MXFP4';
  readonly decodedBy = null;
  readonly ggufType = 'MXFP4';
  readonly recorded = null;
  /** `[experts, out, in]` */
  readonly shape: readonly [number, number, number];
  /** The name of the parameter. Merged, its tensor has it, and is `[experts, in, out]`. */
  readonly parameter: string;
  readonly parts: readonly [scales: string];

  constructor(parameter: string, shape: readonly [number, number, number]) {
    this.parameter = parameter;
    this.shape = shape;
    this.parts = [parameter + SCALES];
  }

  get packedBytes(): number {
    const numbers = this.shape.reduce((product, size) => product * size, 1);
    return numbers / 2 + numbers / MXFP4_BLOCK;
  }

  merged() {
    const [experts, rows, columns] = this.shape;
    return inBfloat16(this.parameter, [experts, columns, rows]);
  }

  storedMatrices({ name }: { name: string }, locate: TensorLocation): StoredTensor[] {
    const [experts, rows, columns] = this.shape;
    const [codes, scales] = [locate(name), locate(this.parts[0])];
    return Array.from({ length: experts }, (_, expert) => {
      const exponents = equalPart(scales, expert, experts);
      return { ...equalPart(codes, expert, experts), quantized: { shape: [rows, columns], exponents } };
    });
  }
}

/** Experts in MXFP4: the layout of the family names their tensors. */
export const mxfp4: WeightFormat = {
  method: 'mxfp4',
  keepsShape: true,
  check(settings, family) {
    if (family?.readsMxfp4 !== true) throw settings.unsupported('quant_method', `is not supported: ${INSTEAD}`);
  },
  typeOf: () => null,
  mayHave: () => new Set(),
  async read(_files, { parameters = [] }) {
    return parameters.flatMap(({ experts, outFeatures, inFeatures, tensors: [codes] }) => {
      if (codes?.packed?.type !== 'mxfp4') return [];
      const parameter = codes.name.slice(0, -CODES.length);
      return [[codes.name, new Mxfp4Weight(parameter, [experts, outFeatures, inFeatures])]];
    });
  },
};

/** The tensors of a parameter `[experts, out, in]` in MXFP4. */
export function mxfp4Tensors(
  parameter: string,
  [experts, outFeatures, inFeatures]: readonly [number, number, number],
): [codes: RequiredTensor, scales: RequiredTensor] {
  const blocks = inFeatures / MXFP4_BLOCK;
  return [
    {
      name: parameter + CODES,
      shape: [experts, outFeatures, blocks, MXFP4_BLOCK / 2],
      packed: { type: 'mxfp4', numbers: experts * outFeatures * inFeatures },
    },
    { name: parameter + SCALES, shape: [experts, outFeatures, blocks], packed: { type: 'mxfp4', numbers: 0 } },
  ];
}

/**
 * Checks the scales of a weight in MXFP4.
 * @param scales the bytes, which are E8M0
 * @throws ProductError model_file_corrupt for one whose numbers may be none in bfloat16
 */
export function checkMxfp4Scales({ path, tensors }: TensorFiles, name: string, scales: Float32Array): void {
  const wrong = scales.findIndex((scale) => scale > GREATEST_SCALE);
  if (wrong === -1) return;
  const label = `${modelFileLabel(path, tensors.get(name)!.file)}: tensor ${name}`;
  const what = `has the scale ${scales[wrong]} at ${wrong}: above ${GREATEST_SCALE}, numbers are not finite in bfloat16`;
  throw new ProductError('model_file_corrupt', `${label} ${what}. Copy it again.`);
}

/** True if the files have a parameter of experts in MXFP4. */
export function isMxfp4(hasTensor: (name: string) => boolean, parameter: string): boolean {
  return hasTensor(parameter + CODES) || hasTensor(parameter + SCALES);
}
