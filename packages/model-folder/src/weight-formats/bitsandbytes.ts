import type { ExpertParameter, FourBitType, LinearLayer, ModelLayout } from '../families/family.js';
import type { LocatedTensor } from '../weights/locate-tensors.js';
import { NESTED_BLOCK, QUANTIZED_BLOCK, StoredWeight } from './four-bit.js';
import { INSTEAD, type WeightFormat } from './quantized-weight.js';
import { WeightParts } from './weight-parts.js';

const CODES = 2 ** 4;
const SCALE_CODES = 2 ** 8;

/** The types that bitsandbytes has. */
const TYPES = ['nf4', 'fp4'] as const satisfies readonly FourBitType[];

const stateName = (weight: string, type: FourBitType) => `${weight}.quant_state.bitsandbytes__${type}`;

/** Weights in 4 bits of bitsandbytes: the names of tensors say which, whatever config.json says. */
export const bitsandbytes: WeightFormat = {
  method: 'bitsandbytes',
  keepsShape: false,
  check(settings) {
    if (settings.flag('load_in_8bit', false)) {
      throw settings.unsupported('load_in_8bit', `is not supported: ${INSTEAD}`);
    }
    const storage = settings.text('bnb_4bit_quant_storage') ?? 'uint8';
    if (storage !== 'uint8') throw settings.unsupported('bnb_4bit_quant_storage', 'is not supported; uint8 is');
  },
  typeOf(tensors, weight) {
    return TYPES.find((type) => tensors.has(stateName(weight, type))) ?? null;
  },
  mayHave(layout) {
    return new Set(quantizableMatrices(layout).map(({ weight }) => weight));
  },
  async read({ path, tensors }, layout) {
    const parts = new WeightParts(path, tensors);
    try {
      const weights: [string, StoredWeight][] = [];
      for (const one of findStored(tensors, layout)) weights.push([one.name, await readWeight(parts, one)]);
      return weights;
    } finally {
      await parts.close();
    }
  },
};

/** A matrix that the files may have in 4 bits: the weight of a linear layer, or of one expert. */
type QuantizableMatrix = Pick<LinearLayer, 'weight' | 'outFeatures' | 'inFeatures' | 'transposed'>;

function quantizableMatrices({ linears, parameters = [] }: ModelLayout): QuantizableMatrix[] {
  return [...linears, ...parameters.flatMap(expertMatrices)];
}

/** The matrices of experts that the files have each by itself. */
function expertMatrices({ tensors }: Pick<ExpertParameter, 'tensors'>): QuantizableMatrix[] {
  return tensors.flatMap(({ name, shape }) => {
    if (shape.length !== 2) return [];
    return [{ weight: name, outFeatures: shape[0]!, inFeatures: shape[1]!, transposed: false }];
  });
}

/** A weight that the files have in 4 bits. */
interface Found {
  name: string;
  type: FourBitType;
  /** The matrix that it is; null for one that the model does not use, such as of an encoder of images. */
  matrix: QuantizableMatrix | null;
}

/** The weights in 4 bits of the model, and all that it does not use. */
function findStored(tensors: ReadonlyMap<string, LocatedTensor>, layout: ModelLayout): Found[] {
  const matrixOf = new Map(quantizableMatrices(layout).map((matrix) => [matrix.weight, matrix]));
  return [...tensors.keys()].flatMap((tensor) => {
    const type = TYPES.find((one) => tensor.endsWith(stateName('', one)));
    if (type === undefined) return [];
    const name = tensor.slice(0, -stateName('', type).length);
    return [{ name, type, matrix: matrixOf.get(name) ?? null }];
  });
}

async function readWeight(parts: WeightParts, { name, type, matrix }: Found): Promise<StoredWeight> {
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
  const ofNested = nested === null ? [] : [nested.scales, `${name}.nested_quant_map`];
  const others = [`${name}.quant_map`, stateName(name, type), ...ofNested];
  const weight = new StoredWeight({
    ...{ type, shape: [rows, columns], values, nested },
    scales: `${name}.absmax`,
    parts: others,
  });
  parts.check(name, 'U8', Math.ceil((rows * columns) / 2));
  parts.check(weight.scales, nested === null ? 'F32' : 'U8', weight.scaleCount);
  if (nested !== null) parts.check(nested.scales, 'F32', weight.nestedScaleCount);
  return weight;
}

/** True for the shape of a matrix, whose numbers can be counted. */
function isMatrixShape(shape: unknown): shape is [number, number] {
  const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) > 0;
  return Array.isArray(shape) && shape.length === 2 && shape.every(isSize) && Number.isSafeInteger(shape[0] * shape[1]);
}

async function readState(parts: WeightParts, name: string, type: FourBitType) {
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
