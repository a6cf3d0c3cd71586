import { type FileHandle, open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import type { Dtype } from '@lorasmith/safetensors';
import { modelFileLabel } from './json-file.js';
import { asModelError, type LocatedTensor } from './weight-files.js';

/** The real ones have about 300 bytes. */
const MAX_STATE_BYTES = 4096;
/** Limits, for docs/limits.md. */
export const quantizedLimits = {
  stateBytes: { value: MAX_STATE_BYTES, unit: 'bytes', beyond: '422 `model_file_corrupt`' },
};

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
    const numbers = Float32Array.from({ length: size }, (_, i) => bytes.readFloatLE(4 * i));
    if (!numbers.every(Number.isFinite)) {
      throw this.fault(name, 'model_file_corrupt', 'has a number that is not finite');
    }
    return numbers;
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
