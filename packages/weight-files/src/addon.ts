import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMap, getSystemErrorName } from 'node:util';

export type MergeInstructions = 'avx512' | 'avx2' | 'generic';

/** A part of an open file. */
export interface FilePart {
  fd: number;
  offset: number;
  bytes: number;
}

/** A tensor to copy, merge or convert. Sizes fit together: the addon does not check them. */
export interface NativeTensor {
  fd: number;
  offset: number;
  bytes: number;
  /** The bytes in place of a part of a file. */
  content?: Uint8Array;
  conversion?: {
    from: 'F32' | 'F16' | 'BF16';
    to: 'F32' | 'F16' | 'BF16' | 'Q8_0' | 'MXFP4';
    rows: number;
    width: number;
    transposed: boolean;
    headRows: number;
    added: number;
    /** First and count of each range, one behind the other; empty: in order. */
    rowOrder: Float64Array;
    /** One row of each `rowStep` is written, the one with the index `rowInStep`. */
    rowStep: number;
    rowInStep: number;
    columnOrder: Float64Array;
  };
  update?: {
    dtype: 'F32' | 'F16' | 'BF16';
    rows: number;
    width: number;
    a: Float32Array;
    b: Float32Array;
    rank: number;
    scale: number;
    transposed: boolean;
  };
  quantized?: { rows: number; width: number } & (
    | { isMadeHere: false; scales: FilePart; nestedScales?: FilePart; module: Float32Array }
    | { isMadeHere: true; numbers: 'F32' | 'F16' | 'BF16' }
    | { blockScales: Float32Array; blockRows: number; blockColumns: number }
    | { exponents: FilePart }
  );
}

/** The exports of native/cpu/module.cc. */
interface Addon {
  /** `control`: [bytes that are done, whether to stop]; `instructions`: empty for the best. Returns the sha256. */
  writeMerged(options: {
    output: number;
    header: Uint8Array;
    tensors: NativeTensor[];
    control: BigInt64Array;
    threads: number;
    instructions: MergeInstructions | '';
  }): Promise<string>;
  mergeInstructions(): MergeInstructions[];
  createRegion(bytes: number): object;
  giveAway(region: object): bigint;
  quantizeScales(regions: object[], counts: Float64Array, offset: number | null): Promise<Float32Array>;
  quantizationTables(): Float32Array;
  /** The quantizer of one instruction set, for tests: `dtype` is the index of F32, F16 or BF16; sizes must fit. Returns whether this processor has it. */
  quantizeNumbers(
    instructions: string,
    dtype: number,
    numbers: Uint8Array,
    codes: Uint8Array,
    scales: Float32Array,
  ): boolean;
  quantizers(): string[];
  createSha256(): object;
  finishSha256(sha256: object): string;
  readPieces(
    fd: number,
    begin: number,
    end: number,
    pieces: Float64Array,
    regions: object[],
    sha256: object | null,
    threads: number,
  ): Promise<boolean>;
}

const FILE = fileURLToPath(new URL('../native/build/weight-files.node', import.meta.url));

export const addon = createRequire(import.meta.url)(FILE) as Addon;

/** The addon's error as Node's own calls throw it: with `code`, and a message that has it. Other errors are as they are. */
export function systemError(error: unknown): unknown {
  const { errno, syscall } = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || errno === undefined) return error;
  const code = getSystemErrorName(errno);
  const text = getSystemErrorMap().get(errno)?.[1] ?? 'unknown error';
  return Object.assign(new Error(`${code}: ${text}, ${syscall}`), { errno, code, syscall });
}
