import type { BlockScales } from '@lorasmith/weight-io';
import type { ConfigFields } from './config-fields.js';
import type { LocatedTensor } from './weight-files.js';
import { WeightParts } from './weight-parts.js';

// Weights in 8 bits (E4M3) with a scale for each block of rows and columns, or one for all, as DeepSeek, Qwen and Mistral
// publish them: `weight` is multiplied by `weight_scale_inv`.

/** A weight in 8 bits. */
export interface ScaledWeight {
  form: 'scaled';
  type: 'fp8';
  /** `[out, in]` */
  shape: readonly [number, number];
  blocks: BlockScales;
  /** Names of the tensors of its scales; static activations have one, which training does not use. */
  scaleNames: readonly string[];
}

/** The default of transformers' FineGrainedFP8Config. */
const USUAL_BLOCK = [128, 128] as const;

/** The name of the scales of a weight. */
const scalesName = (weight: string) => `${weight}_scale_inv`;

/** The name of the scale of a layer's input. */
const inputScaleName = (weight: string) => weight.replace(/weight$/, 'activation_scale');

/** Columns of a block that products decode on the way. */
const LEAST_BLOCK_COLUMNS = 32;

/**
 * Whether weights that are computed as one product stay in 8 bits in memory: their blocks have as many columns, a power of two, or
 * reach over whole rows. Others are decoded when they are loaded.
 */
export function staysScaled(weights: readonly ScaledWeight[]): boolean {
  const [first] = weights;
  if (first === undefined) return false;
  const { columns, block } = first.blocks;
  const isPower = Number.isInteger(Math.log2(block[1])) && block[1] >= LEAST_BLOCK_COLUMNS;
  return (isPower || block[1] >= columns) && weights.every(({ blocks }) => blocks.block[1] === block[1]);
}

/** Bytes of a weight that stays in 8 bits in memory: its numbers, its scales, and which of them each row has. */
export function scaledBytes({ shape: [rows, columns], blocks: { scales } }: ScaledWeight): number {
  return rows * columns + 4 * scales.length + 4 * rows;
}

/** Whether the files have a weight in 8 bits. */
export function isScaled(tensors: ReadonlyMap<string, LocatedTensor>, weight: string): boolean {
  return tensors.get(weight)?.entry.dtype === 'F8_E4M3' && tensors.has(scalesName(weight));
}

/**
 * The rows and columns that share a scale; null: a weight has one scale.
 * @param settings quantization_config
 * @throws ProductError model_not_supported, model_file_corrupt
 */
export function blockSizeOf(settings: ConfigFields): readonly [number, number] | null {
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

/**
 * Reads the scales of all weights in 8 bits.
 * @throws ProductError model_file_missing, model_file_corrupt, model_not_supported; each names the tensor
 */
export async function readScaledWeights(
  folder: string,
  tensors: ReadonlyMap<string, LocatedTensor>,
  blockSize: readonly [number, number] | null,
): Promise<Map<string, ScaledWeight>> {
  const parts = new WeightParts(folder, tensors);
  try {
    const weights = new Map<string, ScaledWeight>();
    for (const name of tensors.keys()) {
      if (isScaled(tensors, name)) weights.set(name, await readWeight(parts, tensors.get(name)!, blockSize));
    }
    return weights;
  } finally {
    await parts.close();
  }
}

async function readWeight(
  parts: WeightParts,
  { entry: { name, shape } }: LocatedTensor,
  blockSize: readonly [number, number] | null,
): Promise<ScaledWeight> {
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
  const scaleNames = [scalesName(name), ...inputScale];
  return { form: 'scaled', type: 'fp8', shape: [rows, columns], blocks: { scales, columns, block }, scaleNames };
}
