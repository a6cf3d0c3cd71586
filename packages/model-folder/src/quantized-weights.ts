import { ProductError } from '@lorasmith/contracts';
import type { ConfigFields } from './config-fields.js';
import type { ExpertParameter, LinearLayer } from './families/family.js';
import { modelFileLabel } from './json-file.js';
import type { Mxfp4Weight } from './mxfp4-weights.js';
import { blockSizeOf, type ScaledWeight, staysScaled } from './scaled-weights.js';
import type { LocatedTensor } from './weight-files.js';
import { WeightParts } from './weight-parts.js';

// Weights that bitsandbytes has quantized to 4 bits (Dettmers et al. 2023, arXiv:2305.14314). A weight [out, in] is a
// vector of numbers, row after row. Each number is a code of 4 bits, two in a byte, the first in the upper half; each 64
// have a scale. With double quantization a scale is a code of 8 bits, each 256 of which have a scale of their own.

/** Numbers that share a scale. */
export const QUANTIZED_BLOCK = 64;
/** Scales that share a scale, with double quantization. */
export const NESTED_BLOCK = 256;

const CODES = 2 ** 4;
const SCALE_CODES = 2 ** 8;

export const QUANTIZED_TYPES = ['nf4', 'fp4'] as const;
export type QuantizedType = (typeof QUANTIZED_TYPES)[number];

/** The advice for weights in another form. */
const INSTEAD = 'use the original model in bfloat16, or a copy of it in 4 bits of bitsandbytes (NF4 or FP4)';

/** A weight in 4 bits or in 8 bits. */
export type QuantizedWeight = FourBitWeight | ScaledWeight | Mxfp4Weight;

/** A weight in 4 bits: the files have it so, or it is made when it is read. */
export type FourBitWeight = StoredWeight | MadeWeight;

/** A weight that is quantized when it is read, in NF4 with double quantization. */
export interface MadeWeight {
  form: 'made';
  type: 'nf4';
  /** `[out, in]` */
  shape: readonly [number, number];
  /** How many of that shape the tensor has, one behind the other: each is quantized by itself. @defaultValue 1 */
  matrices?: number | undefined;
}

/** A quantized weight of the files. Number i is `values[code i] · scale`, rounded to float32. */
export interface StoredWeight {
  form: 'stored';
  type: QuantizedType;
  /** `[out, in]` */
  shape: readonly [number, number];
  /** Each code's number: `[16]`. */
  values: Float32Array;
  /** Name of the tensor of the scales: float32, or codes of 8 bits with double quantization. */
  scales: string;
  /** Double quantization: a scale is `values[code] · its own scale + offset`, each step rounded to float32. */
  nested: {
    values: Float32Array;
    /** Name of the tensor of the scales of scales, float32. */
    scales: string;
    offset: number;
  } | null;
}

/** How many scales a weight has. */
export function scaleCount({ shape: [rows, columns] }: Pick<FourBitWeight, 'shape'>): number {
  return Math.ceil((rows * columns) / QUANTIZED_BLOCK);
}

/** How many scales of scales a weight with double quantization has. */
export function nestedScaleCount(weight: Pick<FourBitWeight, 'shape'>): number {
  return Math.ceil(scaleCount(weight) / NESTED_BLOCK);
}

/** Whether a weight has double quantization. */
export function isNested(weight: FourBitWeight): boolean {
  return weight.form === 'made' || weight.nested !== null;
}

/**
 * Checks the float32 scales of weights, one weight's behind the other's: with double quantization the scales of scales.
 * @param names of the weights
 * @throws ProductError model_file_corrupt for one that is negative or not finite
 */
export function checkScales(
  folder: { path: string; tensors: ReadonlyMap<string, LocatedTensor> },
  names: readonly string[],
  weights: readonly FourBitWeight[],
  scales: Float32Array,
): void {
  const wrong = scales.findIndex((scale) => !(scale >= 0 && scale < Number.POSITIVE_INFINITY));
  if (wrong === -1) return;
  let next = 0;
  const index = weights.findIndex((one) => {
    const matrices = one.form === 'made' ? (one.matrices ?? 1) : 1;
    next += matrices * (isNested(one) ? nestedScaleCount(one) : scaleCount(one));
    return wrong < next;
  });
  const weight = weights[index]!;
  const isMade = weight.form === 'made';
  const name = isMade ? names[index]! : (weight.nested?.scales ?? weight.scales);
  const label = `${modelFileLabel(folder.path, folder.tensors.get(name)!.file)}: tensor ${name}`;
  const what = isMade ? 'number that is not finite' : 'scale that is negative or not finite';
  throw new ProductError('model_file_corrupt', `${label} has a ${what}. Copy it again.`);
}

/**
 * Whether layers that are computed as one product stay quantized in memory: all of them are, in one form, and no block of 64 numbers
 * crosses a row. Others are decoded when they are loaded.
 */
export function staysQuantized(
  quantized: ReadonlyMap<string, QuantizedWeight>,
  layers: readonly LinearLayer[],
): boolean {
  return stayPacked(layers.map(({ weight }) => quantized.get(weight)));
}

function stayPacked(weights: readonly (QuantizedWeight | undefined)[]): boolean {
  const scaled = weights.filter((weight) => weight?.form === 'scaled');
  if (scaled.length > 0) return scaled.length === weights.length && staysScaled(scaled);
  const [first] = weights;
  if (first === undefined || !isFourBit(first)) return false;
  return weights.every(
    (weight) =>
      weight !== undefined &&
      isFourBit(weight) &&
      isNested(weight) === isNested(first) &&
      weight.shape[1] % QUANTIZED_BLOCK === 0,
  );
}

/**
 * Whether the experts of a layer stay quantized in memory, as {@link staysQuantized} says of layers: their matrices lie one below the
 * other.
 */
export function expertsStayQuantized(
  quantized: ReadonlyMap<string, QuantizedWeight>,
  { tensors }: Pick<ExpertParameter, 'tensors'>,
): boolean {
  const weights = tensors.map(({ name }) => quantized.get(name));
  return weights[0]?.form === 'mxfp4' || stayPacked(weights);
}

/** Whether it is a matrix in 4 bits with a table of its own. */
export function isFourBit(weight: QuantizedWeight): weight is FourBitWeight {
  return weight.form === 'stored' || weight.form === 'made';
}

/** @throws ProductError model_not_supported for a quantization that Lorasmith does not read, or not of this family */
export function checkQuantization(config: ConfigFields, { mayBeMxfp4 }: { mayBeMxfp4: boolean }): void {
  const settings = config.nested('quantization_config');
  if (settings === undefined) return;
  if (settings.text('quant_method') === 'fp8') {
    blockSizeOf(settings);
    return;
  }
  if (settings.text('quant_method') === 'mxfp4' && mayBeMxfp4) return;
  if (settings.text('quant_method') !== 'bitsandbytes') {
    throw settings.unsupported('quant_method', `is not supported: ${INSTEAD}`);
  }
  if (settings.flag('load_in_8bit', false)) throw settings.unsupported('load_in_8bit', `is not supported: ${INSTEAD}`);
  const storage = settings.text('bnb_4bit_quant_storage') ?? 'uint8';
  if (storage !== 'uint8') throw settings.unsupported('bnb_4bit_quant_storage', 'is not supported; uint8 is');
}

const stateName = (weight: string, type: QuantizedType) => `${weight}.quant_state.bitsandbytes__${type}`;

/** The form in which the files have a weight; null: as it is. */
export function quantizedTypeOf(tensors: ReadonlyMap<string, LocatedTensor>, weight: string): QuantizedType | null {
  return QUANTIZED_TYPES.find((type) => tensors.has(stateName(weight, type))) ?? null;
}

/** The names of all tensors that belong to a quantized weight. */
export function partsOf(name: string, weight: QuantizedWeight): string[] {
  if (weight.form === 'made') return [name];
  if (weight.form === 'mxfp4') return [name, weight.scales];
  if (weight.form === 'scaled') return [name, ...weight.scaleNames];
  const { type, scales, nested } = weight;
  const ofNested = nested === null ? [] : [nested.scales, `${name}.nested_quant_map`];
  return [name, scales, `${name}.quant_map`, stateName(name, type), ...ofNested];
}

/** A matrix that the files may have in 4 bits: the weight of a linear layer, or of one expert. */
export type QuantizableMatrix = Pick<LinearLayer, 'weight' | 'outFeatures' | 'inFeatures' | 'transposed'>;

/** The matrices of experts that the files have each by itself. */
export function expertMatrices({ tensors }: Pick<ExpertParameter, 'tensors'>): QuantizableMatrix[] {
  return tensors.flatMap(({ name, shape }) => {
    if (shape.length !== 2) return [];
    return [{ weight: name, outFeatures: shape[0]!, inFeatures: shape[1]!, transposed: false }];
  });
}

/** A weight that the files have in 4 bits. */
export interface StoredQuantized {
  name: string;
  type: QuantizedType;
  /** The matrix that it is; null for one that the model does not use, such as of an encoder of images. */
  matrix: QuantizableMatrix | null;
}

/** The quantized weights of `matrices`, and all that the model does not use. */
export function findQuantized(
  tensors: ReadonlyMap<string, LocatedTensor>,
  matrices: readonly QuantizableMatrix[],
): StoredQuantized[] {
  const matrixOf = new Map(matrices.map((matrix) => [matrix.weight, matrix]));
  return [...tensors.keys()].flatMap((tensor) => {
    const type = QUANTIZED_TYPES.find((one) => tensor.endsWith(stateName('', one)));
    if (type === undefined) return [];
    const name = tensor.slice(0, -stateName('', type).length);
    return [{ name, type, matrix: matrixOf.get(name) ?? null }];
  });
}

/**
 * Reads and checks what a folder has of its quantized weights beside their numbers and scales.
 * @throws ProductError model_file_missing, model_file_corrupt, model_not_supported; each names the tensor
 */
export async function readQuantizedWeights(
  folder: string,
  tensors: ReadonlyMap<string, LocatedTensor>,
  stored: readonly StoredQuantized[],
): Promise<Map<string, QuantizedWeight>> {
  const parts = new WeightParts(folder, tensors);
  try {
    const weights = new Map<string, QuantizedWeight>();
    for (const one of stored) weights.set(one.name, await readWeight(parts, one));
    return weights;
  } finally {
    await parts.close();
  }
}

async function readWeight(parts: WeightParts, { name, type, matrix }: StoredQuantized): Promise<StoredWeight> {
  const { fault, state, hasNested } = await readState(parts, name, type);
  if (matrix?.transposed) throw fault('model_not_supported', 'is quantized, which is not supported for GPT-2');
  const found = JSON.stringify(state.shape ?? null).slice(0, 100);
  if (!isMatrixShape(state.shape)) {
    throw fault('model_not_supported', `is for the shape ${found}; only matrices can be quantized`);
  }
  const [rows, columns] = state.shape;
  if (matrix !== null && (rows !== matrix.outFeatures || columns !== matrix.inFeatures)) {
    const expected = `[${matrix.outFeatures}, ${matrix.inFeatures}]`;
    throw fault('model_file_corrupt', `is for the shape ${found}; config.json requires ${expected}`);
  }
  const offset = state.nested_offset;
  const nested = hasNested
    ? {
        values: await parts.numbers(`${name}.nested_quant_map`, SCALE_CODES),
        scales: `${name}.nested_absmax`,
        offset: Math.fround(offset as number),
      }
    : null;
  const values = await parts.numbers(`${name}.quant_map`, CODES);
  const scales = `${name}.absmax`;
  const weight: StoredWeight = { form: 'stored', type, shape: [rows, columns], values, scales, nested };
  parts.check(name, 'U8', Math.ceil((rows * columns) / 2));
  parts.check(weight.scales, nested === null ? 'F32' : 'U8', scaleCount(weight));
  if (nested !== null) parts.check(nested.scales, 'F32', nestedScaleCount(weight));
  return weight;
}

/** Whether it is the shape of a matrix, whose numbers can be counted. */
function isMatrixShape(shape: unknown): shape is [number, number] {
  const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) > 0;
  return Array.isArray(shape) && shape.length === 2 && shape.every(isSize) && Number.isSafeInteger(shape[0] * shape[1]);
}

async function readState(parts: WeightParts, name: string, type: QuantizedType) {
  const tensor = stateName(name, type);
  const fault = (code: 'model_file_corrupt' | 'model_not_supported', what: string) => parts.fault(tensor, code, what);
  const text = await parts.text(tensor);
  let state: Record<string, unknown> | null = null;
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && !Array.isArray(parsed)) state = parsed as Record<string, unknown> | null;
  } catch {
    // It has no state.
  }
  if (state === null) throw fault('model_file_corrupt', 'is not the JSON of a quantized weight');
  if (state.quant_type !== type) throw fault('model_file_corrupt', `has another quant_type than ${type}`);
  if (state.blocksize !== QUANTIZED_BLOCK) {
    const found = JSON.stringify(state.blocksize ?? null).slice(0, 100);
    throw fault('model_not_supported', `has the blocksize ${found}; ${QUANTIZED_BLOCK} is supported`);
  }
  const hasNested = ['nested_offset', 'nested_blocksize', 'nested_dtype'].some((field) => state[field] !== undefined);
  if (hasNested) {
    const offset = state.nested_offset;
    if (typeof offset !== 'number' || !Number.isFinite(Math.fround(offset))) {
      throw fault('model_file_corrupt', 'has a nested_offset that is not a finite number');
    }
    if (state.nested_blocksize !== NESTED_BLOCK || state.nested_dtype !== 'float32') {
      const what = `has another nested_blocksize than ${NESTED_BLOCK}, or another nested_dtype than float32`;
      throw fault('model_not_supported', what);
    }
  }
  return { fault, state, hasNested };
}
