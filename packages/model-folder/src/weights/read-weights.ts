import {
  type BlockScales,
  createRegion,
  type FileRange,
  type FloatDtype,
  type Region,
  readRanges,
  SafetensorsError,
  type SafetensorsFile,
  Sha256,
} from '@lorasmith/weight-files';
import type { ModelFolder } from '../model-folder.js';
import { QUANTIZED_BLOCK } from '../weight-formats/four-bit.js';
import { asModelError, type WeightFile } from './locate-tensors.js';
import { locateTensor, openWeightFiles } from './model-weights.js';

/** Tensors that are read into one region, contiguously. */
export interface WeightTarget {
  names: readonly string[];
  /**
   * The type in memory. U8: bytes as they are in the file. NF4: each tensor is quantized in blocks of 64 numbers; only the last of
   * several may end with a short one.
   */
  dtype: keyof typeof BITS;
  /** Receives the region when it is complete. For NF4, it has codes, and `scales` the float32 scale of each block; else that is null. */
  onFilled(region: Region, scales: Region | null): void;
}

export interface ReadWeightsOptions {
  /** True to hash the files, whole and in the same pass. */
  hash: boolean;
  /** Called after each window, with the bytes of tensors that were read. Reading ends if it throws. */
  onRead(bytes: number): void;
  /** Bytes of a file that one call reads. @defaultValue 32 MiB: enough for all cores, and soon over when a job is stopped */
  windowBytes?: number;
}

/** Bits of an element. */
const BITS = { F32: 32, BF16: 16, U8: 8, NF4: 4 } as const;
/** Bytes of an element. */
const STORED_WIDTH = { F32: 4, F16: 2, BF16: 2, U8: 1, F8_E4M3: 1 } as const satisfies Record<
  FloatDtype | 'U8' | 'F8_E4M3',
  number
>;

/** Hashing is sequential within a file. Each file that is being read occupies one of libuv's four threads. */
const MOST_FILES_AT_ONCE = 3;

/** A target while it is being read. */
interface Filling {
  target: WeightTarget;
  bytes: number;
  /** The size of the float32 scales; 0 where it is not quantized. */
  scaleBytes: number;
  missingBytes: number;
  /** Its own, and that of its scales. */
  regions: { own: Region; scales: Region | null } | null;
}

/** A tensor of a file, and its offsets in memory. */
interface Part {
  filling: Filling;
  fileOffset: number;
  bytes: number;
  regionOffset: number;
  scaleOffset: number;
  from: keyof typeof STORED_WIDTH;
  /** The scales of a weight in 8 bits. */
  blocks: BlockScales | null;
}

/**
 * Reads tensors of a model, each file once and in its order, and converts them to other dtypes on the way. Besides the targets it
 * needs a window for each of at most three files, where dtypes are converted and hashed.
 *
 * @returns with `hash` the sha256 of each file, in the order of the model's files; else null
 * @throws ProductError model_file_missing, model_file_corrupt; what the callbacks throw
 */
export async function readWeights(
  folder: ModelFolder,
  targets: readonly WeightTarget[],
  { hash, onRead, windowBytes = 2 ** 25 }: ReadWeightsOptions,
): Promise<string[] | null> {
  const files = await openWeightFiles(folder);
  const digests = new Map<string, string>();
  let parts: ReadonlyMap<string, Part[]>;
  let failed = false;
  const readFile = async ({ name }: WeightFile) => {
    const file = files.get(name)!;
    const sha256 = hash ? new Sha256() : null;
    for (const window of windowsOf(parts.get(name) ?? [], windowBytes, hash ? file.sizeBytes : null)) {
      if (failed) return;
      onRead(await readWindow(file, window, sha256));
    }
    if (sha256 !== null) digests.set(name, sha256.finish());
  };
  const waiting = [...folder.files];
  const readFiles = async () => {
    for (let file = waiting.shift(); file !== undefined && !failed; file = waiting.shift()) {
      try {
        await readFile(file);
      } catch (error) {
        failed = true;
        throw isOfFile(error) ? asModelError(error, folder.path, file.name) : error;
      }
    }
  };
  try {
    parts = partsOfFiles(folder, files, targets);
    const reading = await Promise.allSettled(Array.from({ length: MOST_FILES_AT_ONCE }, readFiles));
    for (const one of reading) if (one.status === 'rejected') throw one.reason;
  } finally {
    for (const file of files.values()) await file.close();
  }
  return hash ? folder.files.map(({ name }) => digests.get(name)!) : null;
}

/** The parts of each file, in its order. */
function partsOfFiles(
  folder: ModelFolder,
  files: ReadonlyMap<string, SafetensorsFile>,
  targets: readonly WeightTarget[],
): Map<string, Part[]> {
  const parts = new Map<string, Part[]>();
  for (const target of targets) {
    const { dtype: to } = target;
    const filling: Filling = { target, bytes: 0, scaleBytes: 0, missingBytes: 0, regions: null };
    for (const name of target.names) {
      const { file } = locateTensor(folder, name);
      const { byteOffset: fileOffset, byteLength: bytes, dtype } = files.get(file)!.tensors.get(name)!;
      const from = dtype as keyof typeof STORED_WIDTH;
      const own = parts.get(file) ?? [];
      const blocks = to === 'U8' ? null : (folder.quantized.get(name)?.decodedBy ?? null);
      const offsets = { regionOffset: filling.bytes, scaleOffset: filling.scaleBytes, blocks };
      if (bytes > 0) own.push({ filling, fileOffset, bytes, ...offsets, from });
      parts.set(file, own);
      filling.bytes += Math.ceil(((bytes / STORED_WIDTH[from]) * BITS[to]) / 8);
      if (to === 'NF4') filling.scaleBytes += 4 * Math.ceil(bytes / STORED_WIDTH[from] / QUANTIZED_BLOCK);
      filling.missingBytes += bytes;
    }
    if (filling.missingBytes === 0) target.onFilled(createRegion(0), to === 'NF4' ? createRegion(0) : null);
  }
  for (const own of parts.values()) own.sort((a, b) => a.fileOffset - b.fileOffset);
  return parts;
}

interface Window {
  begin: number;
  end: number;
  /** The parts that reach into it. */
  parts: Part[];
}

/** @param fileBytes the whole file is covered, whose size this is; null: only the parts */
function* windowsOf(parts: readonly Part[], windowBytes: number, fileBytes: number | null): Generator<Window> {
  const last = parts.at(-1);
  const stop = fileBytes ?? (last === undefined ? 0 : last.fileOffset + last.bytes);
  let next = 0;
  let position = fileBytes === null ? (parts[0]?.fileOffset ?? 0) : 0;
  while (position < stop) {
    const begin = position;
    let end = Math.min(begin + windowBytes, stop);
    const inside: Part[] = [];
    while (next < parts.length && parts[next]!.fileOffset < end) {
      const part = parts[next]!;
      inside.push(part);
      if (part.fileOffset + part.bytes > end) {
        // The next window continues the part with a whole element, or block of them.
        const unit = part.filling.target.dtype === 'NF4' ? QUANTIZED_BLOCK : 1;
        end -= (end - part.fileOffset) % (unit * STORED_WIDTH[part.from]);
        break;
      }
      next += 1;
    }
    yield { begin, end, parts: inside };
    position = fileBytes === null ? Math.max(end, parts[next]?.fileOffset ?? stop) : end;
  }
}

/** @returns the bytes of tensors that were read */
async function readWindow(
  file: SafetensorsFile,
  { begin, end, parts }: Window,
  sha256: Sha256 | null,
): Promise<number> {
  const ranges = parts.map((part): FileRange => {
    const { filling, from, regionOffset, scaleOffset, blocks } = part;
    const { dtype: to } = filling.target;
    filling.regions ??= {
      own: createRegion(filling.bytes),
      scales: to === 'NF4' ? createRegion(filling.scaleBytes) : null,
    };
    const { own: region, scales } = filling.regions;
    const fileOffset = Math.max(begin, part.fileOffset);
    const bytes = Math.min(end, part.fileOffset + part.bytes) - fileOffset;
    const done = (fileOffset - part.fileOffset) / STORED_WIDTH[from];
    const ofScales = scales && { region: scales, offset: scaleOffset + (4 * done) / QUANTIZED_BLOCK };
    const range = { fileOffset, bytes, region, regionOffset: regionOffset + (done * BITS[to]) / 8, from, to };
    return {
      ...range,
      scales: ofScales ?? undefined,
      blocks: blocks === null ? undefined : { of: blocks, first: done },
    };
  });
  if (!(await readRanges(file.fd, { begin, end }, ranges, sha256))) {
    // The file was truncated after its size was checked.
    throw new SafetensorsError('file_truncated', 'the file ended while it was read');
  }
  let readBytes = 0;
  for (const [i, { filling }] of parts.entries()) {
    const { bytes } = ranges[i]!;
    readBytes += bytes;
    filling.missingBytes -= bytes;
    if (filling.missingBytes > 0) continue;
    const { own, scales } = filling.regions!;
    filling.regions = null;
    filling.target.onFilled(own, scales);
  }
  return readBytes;
}

/** True if the file is at fault, not a callback. */
function isOfFile(error: unknown): boolean {
  return error instanceof SafetensorsError || (error as NodeJS.ErrnoException).syscall !== undefined;
}
