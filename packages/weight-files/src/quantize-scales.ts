import { addon, systemError } from './addon.js';
import { createRegion, type Region } from './read-ranges.js';

/** Scales that share a scale. */
const NESTED_BLOCK = 256;

const tables = addon.quantizationTables();
/** The numbers that the codes of NF4 stand for: `[16]`. */
export const NF4_VALUES: Float32Array = tables.subarray(0, 16);
/** The numbers that the codes of scales stand for, of those that are quantized here: `[256]`. */
export const SCALE_VALUES: Float32Array = tables.subarray(16, 272);
/** The numbers of the same dynamic type of bitsandbytes without a sign, all of them from 0 to 1: `[256]`. */
export const UNSIGNED_VALUES: Float32Array = tables.subarray(272);

/** Quantized scales of weights, one weight's behind the other's. */
export interface QuantizedScales {
  /** A byte for each scale. */
  codes: Region;
  /** The scales of scales, float32. Not finite where a number of the weight is not. */
  nested: Region;
  /** The offset of each weight. */
  offsets: Float32Array;
}

/**
 * Quantizes the float32 scales of weights as bitsandbytes does on a processor.
 *
 * @param scales their region, which is freed
 * @param counts how many scales each weight has
 * @param offset for tests: of all weights. @defaultValue the mean of a weight's scales
 */
export async function quantizeScales(
  scales: Region,
  counts: readonly number[],
  offset: number | null = null,
): Promise<QuantizedScales> {
  const codes = createRegion(counts.reduce((sum, count) => sum + count, 0));
  const nested = createRegion(counts.reduce((sum, count) => sum + 4 * Math.ceil(count / NESTED_BLOCK), 0));
  const regions = [scales, codes, nested].map(({ handle }) => handle);
  try {
    const offsets = await addon.quantizeScales(regions, Float64Array.from(counts), offset);
    return { codes, nested, offsets };
  } catch (error) {
    throw systemError(error);
  }
}
