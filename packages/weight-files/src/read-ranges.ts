import { availableParallelism } from 'node:os';
import { addon, systemError } from './addon.js';

/** Memory that weights are read into. It is returned to the system when the value is collected, unless it was given away. */
export interface Region {
  readonly bytes: number;
  /** The addon's. */
  readonly handle: object;
}

/**
 * Memory that starts at a multiple of the page size and costs nothing until it is filled.
 * @throws RangeError when the system has no memory for it
 */
export function createRegion(bytes: number): Region {
  if (!Number.isSafeInteger(bytes) || bytes < 0) throw new RangeError(`cannot allocate ${bytes} bytes`);
  return { bytes, handle: addon.createRegion(bytes) };
}

/** Gives the memory to the caller, who frees it with `munmap(address, bytes)`. The region cannot be used any more. */
export function giveAway({ bytes, handle }: Region): { address: bigint; bytes: number } {
  return { address: addon.giveAway(handle), bytes };
}

/** Conversions from the stored dtype to that in memory, in the order of kConversions in native/read_pieces.cc. */
const CONVERSIONS = [
  ...['none', 'BF16 F32', 'F16 F32', 'F32 BF16', 'F16 BF16'],
  ...['F32 NF4', 'F16 NF4', 'BF16 NF4', 'F8_E4M3 F32', 'F8_E4M3 BF16'],
];

type Stored = 'F32' | 'F16' | 'BF16' | 'U8' | 'F8_E4M3';

/** The float32 scales of a matrix in 8 bits, one for each block of rows and columns; the last ones may be short. */
export interface BlockScales {
  scales: Float32Array;
  /** Columns of the matrix. */
  columns: number;
  /** Rows and columns of a block. */
  block: readonly [number, number];
}

/** A range of a file, and its destination in memory. */
export interface FileRange {
  fileOffset: number;
  /** Bytes in the file. */
  bytes: number;
  region: Region;
  regionOffset: number;
  from: Stored;
  /** U8: the bytes as they are. NF4: codes of 4 bits, two in a byte. The range is then whole blocks of 64 numbers, or ends with its weight. */
  to: 'F32' | 'BF16' | 'U8' | 'NF4';
  /** The destination of the float32 scales of its blocks. For NF4 only. */
  scales?: { region: Region; offset: number } | undefined;
  /** The scales of a matrix in F8_E4M3, and the index of the first number of the range in it. */
  blocks?: { of: BlockScales; first: number } | undefined;
}

/** More do not read faster from memory. */
const MOST_THREADS = 8;

/** The sha256 of a file whose parts are read in order. */
export class Sha256 {
  /** The addon's. */
  readonly handle: object = addon.createSha256();

  /** Hexadecimal. Call it once, at the end. */
  finish(): string {
    return addon.finishSha256(this.handle);
  }
}

/**
 * Reads ranges of an open file on several threads, converts them, and adds all bytes from `begin` to `end` to the hash. Float16
 * and float32 become bfloat16 by rounding to nearest even; NF4 is made as bitsandbytes does on a processor.
 *
 * @param ranges in the order of the file, between `begin` and `end`
 * @param sha256 null: bytes between the ranges are not read
 * @returns false when the file ends before `end`
 * @throws the system's error when the file cannot be read
 */
export async function readRanges(
  fd: number,
  { begin, end }: { begin: number; end: number },
  ranges: readonly FileRange[],
  sha256: Sha256 | null,
): Promise<boolean> {
  const regions = [...new Set(ranges.flatMap(({ region, scales }) => (scales ? [region, scales.region] : [region])))];
  const arrays = [...new Set(ranges.flatMap(({ blocks }) => (blocks ? [blocks.of.scales] : [])))];
  const numbers = ranges.flatMap(({ fileOffset, bytes, region, regionOffset, from, to, scales, blocks }) => {
    const conversion = from === to || to === 'U8' ? 0 : CONVERSIONS.indexOf(`${from} ${to}`);
    const ofScales = scales === undefined ? [0, 0] : [regions.indexOf(scales.region), scales.offset];
    const ofBlocks =
      blocks === undefined
        ? [0, 0, 0, 0, 0]
        : [regions.length + arrays.indexOf(blocks.of.scales), blocks.of.columns, ...blocks.of.block, blocks.first];
    return [fileOffset, bytes, regions.indexOf(region), regionOffset, conversion, ...ofScales, ...ofBlocks];
  });
  const threads = Math.min(availableParallelism(), MOST_THREADS);
  const handles = [...regions.map(({ handle }) => handle), ...arrays];
  try {
    return await addon.readPieces(fd, begin, end, Float64Array.from(numbers), handles, sha256?.handle ?? null, threads);
  } catch (error) {
    throw systemError(error);
  }
}
