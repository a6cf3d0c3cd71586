import type { BlockScales, StoredTensor, TensorEntry } from '@lorasmith/weight-files';
import type { ConfigFields } from '../config/config-fields.js';
import type { LocatedTensor } from '../weights/locate-tensors.js';
import { inBfloat16, type QuantizedWeight, type TensorLocation, type WeightFormat } from './quantized-weight.js';
import { WeightParts } from './weight-parts.js';

// Weights in 8 bits (E4M3) with a scale for each block of rows and columns, or one for all, as DeepSeek, Qwen and Mistral
// publish them: `weight` is multiplied by `weight_scale_inv`.

/** Columns of a block that products decode on the way. */
const LEAST_BLOCK_COLUMNS = 32;

/** A weight in 8 bits. */
export class Fp8Weight implements QuantizedWeight {
  readonly reader = 'fp8';
  readonly type = 'fp8';
  readonly matrices = null;
  readonly ggufType = null;
  readonly recorded = null;
  /** `[out, in]` */
  readonly shape: readonly [number, number];
  readonly decodedBy: BlockScales;
  /** Names of the tensors of its scales; static activations have one, which training does not use. */
  readonly parts: readonly string[];

  constructor(shape: readonly [number, number], decodedBy: BlockScales, parts: readonly string[]) {
    this.shape = shape;
    this.decodedBy = decodedBy;
    this.parts = parts;
  }

  /** Their blocks have as many columns, a power of two, or reach over whole rows. */
  get packing(): string | null {
    const { columns, block } = this.decodedBy;
    const isPower = Number.isInteger(Math.log2(block[1])) && block[1] >= LEAST_BLOCK_COLUMNS;
    return isPower || block[1] >= columns ? `8 bits, blocks of ${block[1]} columns` : null;
  }

  /** Its numbers, its scales, and which of them each row has. */
  get packedBytes(): number {
    const [rows, columns] = this.shape;
    return rows * columns + 4 * this.decodedBy.scales.length + 4 * rows;
  }

  merged({ name, shape }: TensorEntry) {
    return inBfloat16(name, shape);
  }

  storedMatrices({ name }: TensorEntry, locate: TensorLocation): StoredTensor[] {
    return [{ ...locate(name), quantized: { shape: this.shape, blocks: this.decodedBy } }];
  }
}

/** The default of transformers' FineGrainedFP8Config. */
const USUAL_BLOCK = [128, 128] as const;

/** The name of the scales of a weight. */
const scalesName = (weight: string) => `${weight}_scale_inv`;

/** The name of the scale of a layer's input. */
const inputScaleName = (weight: string) => weight.replace(/weight$/, 'activation_scale');

/** Weights in 8 bits, where config.json says so. */
export const fp8: WeightFormat = {
  method: 'fp8',
  keepsShape: true,
  check(settings) {
    blockSizeOf(settings);
  },
  typeOf(tensors, weight, settings) {
    return settings !== null && isFp8(tensors, weight) ? 'fp8' : null;
  },
  mayHave({ linears, parameters = [] }) {
    const ofExperts = parameters.flatMap(({ tensors }) => tensors.map(({ name }) => name));
    return new Set([...linears.map(({ weight }) => weight), ...ofExperts]);
  },
  async read({ path, tensors }, _layout, settings) {
    if (settings === null) return [];
    const blockSize = blockSizeOf(settings);
    const parts = new WeightParts(path, tensors);
    try {
      const weights: [string, Fp8Weight][] = [];
      for (const [name, tensor] of tensors) {
        if (isFp8(tensors, name)) weights.push([name, await readWeight(parts, tensor, blockSize)]);
      }
      return weights;
    } finally {
      await parts.close();
    }
  },
};

function isFp8(tensors: ReadonlyMap<string, LocatedTensor>, weight: string): boolean {
  return tensors.get(weight)?.entry.dtype === 'F8_E4M3' && tensors.has(scalesName(weight));
}

/**
 * The rows and columns that share a scale; null: a weight has one scale.
 * @param settings quantization_config
 * @throws ProductError model_not_supported, model_file_corrupt
 */
function blockSizeOf(settings: ConfigFields): readonly [number, number] | null {
  const scheme = settings.text('activation_scheme') ?? 'dynamic';
  if (!['dynamic', 'static'].includes(scheme)) {
    throw settings.unsupported('activation_scheme', 'is not supported; dynamic and static are');
  }
  if (settings.isNull('weight_block_size')) return null;
  if (!settings.has('weight_block_size')) return USUAL_BLOCK;
  const [rows, columns] = settings.positiveNumbers('weight_block_size', 2) as [number, number];
  if (![rows, columns].every(Number.isSafeInteger)) throw settings.corrupt('weight_block_size', 'must list integers');
  return [rows, columns];
}

async function readWeight(
  parts: WeightParts,
  { entry: { name, shape } }: LocatedTensor,
  blockSize: readonly [number, number] | null,
): Promise<Fp8Weight> {
  const [rows = 0, columns = 0] = shape;
  if (shape.length !== 2 || rows * columns === 0) {
    throw parts.fault(
      name,
      'model_not_supported',
      `has the shape [${shape.join(', ')}]; only matrices can be in 8 bits`,
    );
  }
  const block = blockSize ?? ([rows, columns] as const);
  const count = Math.ceil(rows / block[0]) * Math.ceil(columns / block[1]);
  const scales = await parts.scales(scalesName(name), count);
  if (scales.some((scale) => scale < 0)) {
    throw parts.fault(scalesName(name), 'model_file_corrupt', 'has a scale that is negative');
  }
  const inputScale = parts.has(inputScaleName(name)) ? [inputScaleName(name)] : [];
  return new Fp8Weight([rows, columns], { scales, columns, block }, [scalesName(name), ...inputScale]);
}
