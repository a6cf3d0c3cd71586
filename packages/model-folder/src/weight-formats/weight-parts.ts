import { type FileHandle, open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import type { Dtype } from '@lorasmith/weight-files';
import { modelFileLabel } from '../config/json-file.js';
import { asModelError, type LocatedTensor } from '../weights/locate-tensors.js';

/** The real ones have about 300 bytes. */
const MAX_STATE_BYTES = 4096;
/** Limits, for docs/limits.md. */
export const quantizedLimits = {
  stateBytes: { value: MAX_STATE_BYTES, unit: 'bytes', beyond: '422 `model_file_corrupt`' },
};

const asFloat32 = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!;

/** Number i of scales in other dtypes than float32. E8M0: a power of two, or NaN. */
const DECODED_SCALES = new Map<Dtype, (bytes: Buffer, i: number) => number>([
  ['BF16', (bytes, i) => asFloat32(bytes.readUInt16LE(2 * i) * 2 ** 16)],
  ['F8_E8M0', (bytes, i) => (bytes[i] === 255 ? Number.NaN : 2 ** (bytes[i]! - 127))],
]);

/** Tensors of the files, each small, read one after the other. */
export class WeightParts {
  readonly #folder: string;
  readonly #tensors: ReadonlyMap<string, LocatedTensor>;
  readonly #open = new Map<string, FileHandle>();

  constructor(folder: string, tensors: ReadonlyMap<string, LocatedTensor>) {
    this.#folder = folder;
    this.#tensors = tensors;
  }

  /** @throws ProductError model_file_missing; model_file_corrupt for another dtype or size */
  check(name: string, dtype: Dtype, size: number): LocatedTensor {
    const located = this.#locate(name);
    const { entry } = located;
    const count = entry.shape.reduce((product, dimension) => product * dimension, 1);
    if (entry.dtype !== dtype || count !== size) {
      const found = `is ${entry.dtype} [${entry.shape.join(', ')}]`;
      throw this.fault(
        name,
        'model_file_corrupt',
        `${found}; the quantized weight requires ${size} numbers in ${dtype}`,
      );
    }
    return located;
  }

  /** @throws ProductError as {@link check}, and for a number that is not finite */
  async numbers(name: string, size: number): Promise<Float32Array> {
    const bytes = await this.#read(this.check(name, 'F32', size));
    return this.#finite(
      name,
      Float32Array.from({ length: size }, (_, i) => bytes.readFloatLE(4 * i)),
    );
  }

  #finite(name: string, numbers: Float32Array): Float32Array {
    if (!numbers.every(Number.isFinite)) {
      throw this.fault(name, 'model_file_corrupt', 'has a number that is not finite');
    }
    return numbers;
  }

  /**
   * Scales as float32.
   * @throws ProductError as {@link numbers}; model_not_supported for another dtype than float32, bfloat16 and E8M0
   */
  async scales(name: string, size: number): Promise<Float32Array> {
    const { dtype } = this.#locate(name).entry;
    if (dtype === 'F32') return await this.numbers(name, size);
    const decode = DECODED_SCALES.get(dtype);
    if (decode === undefined) {
      throw this.fault(name, 'model_not_supported', `is ${dtype}; scales in F32, BF16 and F8_E8M0 are supported`);
    }
    const bytes = await this.#read(this.check(name, dtype, size));
    return this.#finite(
      name,
      Float32Array.from({ length: size }, (_, i) => decode(bytes, i)),
    );
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  async text(name: string): Promise<string> {
    const located = this.#locate(name);
    const { dtype, byteLength } = located.entry;
    if (dtype !== 'U8' || byteLength > MAX_STATE_BYTES) {
      throw this.fault(name, 'model_file_corrupt', `is not JSON of at most ${MAX_STATE_BYTES} bytes`);
    }
    return (await this.#read(located)).toString('utf8');
  }

  fault(name: string, code: 'model_file_corrupt' | 'model_not_supported', what: string): ProductError {
    const file = this.#tensors.get(name)?.file ?? '';
    return new ProductError(code, `${modelFileLabel(this.#folder, file)}: tensor ${name} ${what}.`);
  }

  async close(): Promise<void> {
    for (const handle of this.#open.values()) await handle.close();
  }

  #locate(name: string): LocatedTensor {
    const located = this.#tensors.get(name);
    if (located !== undefined) return located;
    const message = `${basename(this.#folder)}: no weight file contains ${name}, a part of a quantized weight.`;
    throw new ProductError('model_file_missing', message);
  }

  async #read({ file, entry }: LocatedTensor): Promise<Buffer> {
    const bytes = Buffer.alloc(entry.byteLength);
    try {
      let handle = this.#open.get(file);
      if (handle === undefined) {
        handle = await open(join(this.#folder, file), 'r');
        this.#open.set(file, handle);
      }
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, entry.byteOffset);
      if (bytesRead === bytes.length) return bytes;
    } catch (error) {
      throw asModelError(error, this.#folder, file);
    }
    throw this.fault(entry.name, 'model_file_corrupt', 'ends before its end');
  }
}
