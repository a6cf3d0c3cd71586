import { ProductError } from '@lorasmith/contracts';
import type { ExpertParameter, RequiredTensor } from './families/family.js';
import { modelFileLabel } from './json-file.js';
import type { LocatedTensor } from './weight-files.js';

// Weights of experts in MXFP4 (OCP Microscaling Formats 1.0, arXiv:2310.10537), as gpt-oss is published: numbers of 4 bits (E2M1), two
// in a byte, the first in the lower half; each 32 of a row have a scale, a power of two in a byte (E8M0).

/** Numbers that share a scale. */
export const MXFP4_BLOCK = 32;

const CODES = '_blocks';
const SCALES = '_scales';

/** The scale of 2^125: six times this is the largest number of E2M1, and still finite in bfloat16. */
const GREATEST_SCALE = 252;

/** The weights `[experts, out, in]` of a parameter of experts. */
export interface Mxfp4Weight {
  form: 'mxfp4';
  type: 'mxfp4';
  /** `[experts, out, in]` */
  shape: readonly [number, number, number];
  /** The name of the parameter. Merged, its tensor has it, and is `[experts, in, out]`. */
  parameter: string;
  /** Name of the tensor of the scales. */
  scales: string;
}

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
      mxfp4: { numbers: experts * outFeatures * inFeatures },
    },
    { name: parameter + SCALES, shape: [experts, outFeatures, blocks], mxfp4: { numbers: 0 } },
  ];
}

/** The weights in MXFP4 among parameters of experts, by the name of the tensor of their codes. */
export function mxfp4Weights(parameters: readonly ExpertParameter[]): [name: string, weight: Mxfp4Weight][] {
  return parameters.flatMap(({ experts, outFeatures, inFeatures, tensors: [codes, scales] }) => {
    if (codes?.mxfp4 === undefined) return [];
    const shape = [experts, outFeatures, inFeatures] as const;
    const parameter = codes.name.slice(0, -CODES.length);
    return [[codes.name, { form: 'mxfp4', type: 'mxfp4', shape, parameter, scales: scales!.name }]];
  });
}

/**
 * Checks the scales of a weight in MXFP4.
 * @param scales the bytes, which are E8M0
 * @throws ProductError model_file_corrupt for one whose numbers may be none in bfloat16
 */
export function checkMxfp4Scales(
  folder: { path: string; tensors: ReadonlyMap<string, LocatedTensor> },
  name: string,
  scales: Float32Array,
): void {
  const wrong = scales.findIndex((scale) => scale > GREATEST_SCALE);
  if (wrong === -1) return;
  const label = `${modelFileLabel(folder.path, folder.tensors.get(name)!.file)}: tensor ${name}`;
  const what = `has the scale ${scales[wrong]} at ${wrong}: above ${GREATEST_SCALE}, numbers are not finite in bfloat16`;
  throw new ProductError('model_file_corrupt', `${label} ${what}. Copy it again.`);
}

/** Bytes of a weight that stays in MXFP4 in memory. */
export function mxfp4Bytes({ shape: [experts, rows, columns] }: Mxfp4Weight): number {
  const numbers = experts * rows * columns;
  return numbers / 2 + numbers / MXFP4_BLOCK;
}

/** Whether the files have a parameter of experts in MXFP4. */
export function isMxfp4(hasTensor: (name: string) => boolean, parameter: string): boolean {
  return hasTensor(parameter + CODES) || hasTensor(parameter + SCALES);
}
