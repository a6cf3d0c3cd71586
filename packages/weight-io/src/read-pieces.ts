import { availableParallelism } from 'node:os';
import { addon, systemError } from './addon.js';
import type { Region } from './region.js';

/** Conversions from the stored dtype to that in memory, in the order of kConversions in native/read_pieces.cc. */
const CONVERSIONS = ['none', 'BF16 F32', 'F16 F32', 'F32 BF16', 'F16 BF16'] as const;

type Stored = 'F32' | 'F16' | 'BF16' | 'U8';

/** A part of a file and where it goes. */
export interface FilePiece {
  fileOffset: number;
  /** Bytes in the file. */
  bytes: number;
  region: Region;
  regionOffset: number;
  from: Stored;
  to: 'F32' | 'BF16' | 'U8';
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
 * Reads pieces of an open file on several threads, converts them, and adds all bytes from `begin` to `end` to the hash. Float16
 * and float32 become bfloat16 by rounding to nearest even.
 *
 * @param pieces in the order of the file, between `begin` and `end`
 * @param sha256 null: what lies between pieces is not read
 * @returns false when the file ends before `end`
 * @throws the system's error when the file cannot be read
 */
export async function readPieces(
  fd: number,
  { begin, end }: { begin: number; end: number },
  pieces: readonly FilePiece[],
  sha256: Sha256 | null,
): Promise<boolean> {
  const regions = [...new Set(pieces.map(({ region }) => region))];
  const numbers = pieces.flatMap(({ fileOffset, bytes, region, regionOffset, from, to }) => {
    const conversion = from === to ? 0 : CONVERSIONS.indexOf(`${from} ${to}` as (typeof CONVERSIONS)[number]);
    return [fileOffset, bytes, regions.indexOf(region), regionOffset, conversion];
  });
  const threads = Math.min(availableParallelism(), MOST_THREADS);
  const handles = regions.map(({ handle }) => handle);
  try {
    return await addon.readPieces(fd, begin, end, Float64Array.from(numbers), handles, sha256?.handle ?? null, threads);
  } catch (error) {
    throw systemError(error);
  }
}
