import {
  DTYPE_NAMES,
  type LinearLayer,
  type ModelFolder,
  type ModelWeights,
  openModelWeights,
} from '@lorasmith/model-folder';
import type { FloatDtype } from '@lorasmith/safetensors';
import {
  cast,
  concat,
  dispose,
  type FloatDType,
  keep,
  scope,
  type Tensor,
  tensorOfBytes,
  transpose,
} from '@lorasmith/tensor';
import { DenseLinear, type LinearGroup } from './frozen-linear.js';

export interface LoadOptions {
  /** Called as bytes arrive. */
  onProgress?: ((progress: { readBytes: number; totalBytes: number }) => void) | undefined;
  /** See OutputHead. @defaultValue LOGITS_PER_CHUNK */
  logitsInChunk?: number | undefined;
}

/** One typed array holds at most this on Node 20. */
const MAX_BUFFER_BYTES = 2 ** 32;

/** Reads a base model's tensors into the engine, one at a time. What it gives is out of every scope: the caller's to free. */
export class WeightSource {
  readonly #weights: ModelWeights;
  readonly #dtype: FloatDType;
  readonly #onRead: (bytes: number) => void;
  readonly #given: Tensor[] = [];

  private constructor(weights: ModelWeights, dtype: FloatDType, onRead: (bytes: number) => void) {
    this.#weights = weights;
    this.#dtype = dtype;
    this.#onRead = onRead;
  }

  /** Opens the weights of a model for `use`, and closes them again. When `use` fails, what it was given is freed. */
  static async reading<Result>(
    folder: ModelFolder,
    dtype: FloatDType,
    options: LoadOptions,
    use: (source: WeightSource) => Promise<Result>,
  ): Promise<Result> {
    const weights = await openModelWeights(folder);
    let readBytes = 0;
    const onRead = (bytes: number) => {
      readBytes += bytes;
      options.onProgress?.({ readBytes, totalBytes: folder.weightBytes });
    };
    const source = new WeightSource(weights, dtype, onRead);
    try {
      return await use(source);
    } catch (error) {
      dispose(source.#given);
      throw error;
    } finally {
      await weights.close();
    }
  }

  /** @param dtype of the result; default: what the model computes in */
  async tensor(name: string, dtype: FloatDType = this.#dtype): Promise<Tensor> {
    const { shape } = this.#weights.entry(name);
    return await this.#stackedAs([name], shape, dtype);
  }

  /** Linear layers with the same input, stacked. Either all have a bias or none. */
  async linearGroup(layers: readonly LinearLayer[]): Promise<LinearGroup> {
    const biases = layers.flatMap(({ bias }) => bias ?? []);
    if (biases.length > 0 && biases.length < layers.length) throw new Error('stacked layers have a bias all or none');
    const weight = await this.#weight(layers); // [sum of out, in]
    const bias = biases.length === 0 ? null : await this.#stacked(biases); // [sum of out]
    return { modules: layers, linear: new DenseLinear(weight, bias) };
  }

  /** `[Σ out, in]` */
  async #weight(layers: readonly LinearLayer[]): Promise<Tensor> {
    if (layers.every(({ transposed }) => !transposed)) return await this.#stacked(layers.map(({ weight }) => weight));
    const stored: Tensor[] = [];
    for (const { weight } of layers) stored.push(await this.tensor(weight));
    const turned = scope(() =>
      concat(
        stored.map((one, i) => (layers[i]!.transposed ? transpose(one, [1, 0]) : one)),
        0,
      ),
    );
    dispose(stored);
    return this.#give(turned);
  }

  /** Tensors that differ in their first axis only, one below the other. */
  async #stacked(names: readonly string[]): Promise<Tensor> {
    const entries = names.map((name) => this.#weights.entry(name));
    const [, ...others] = entries[0]!.shape;
    const shape = [entries.reduce((rows, entry) => rows + entry.shape[0]!, 0), ...others];
    const bytes = entries.reduce((sum, { byteLength }) => sum + byteLength, 0);
    if (bytes <= MAX_BUFFER_BYTES && entries.every(({ dtype }) => dtype === entries[0]!.dtype)) {
      return await this.#stackedAs(names, shape, this.#dtype);
    }
    const parts: Tensor[] = [];
    for (const name of names) parts.push(await this.tensor(name));
    const whole = this.#give(scope(() => concat(parts, 0)));
    dispose(parts);
    return whole;
  }

  /** The tensors' bytes one after the other, read into one buffer that the engine takes over without a copy. */
  async #stackedAs(names: readonly string[], shape: readonly number[], dtype: FloatDType): Promise<Tensor> {
    const entries = names.map((name) => this.#weights.entry(name));
    const bytes = new Uint8Array(entries.reduce((sum, { byteLength }) => sum + byteLength, 0));
    let offset = 0;
    await settled(
      entries.map(async ({ byteLength }, i) => {
        const part = bytes.subarray(offset, offset + byteLength);
        offset += byteLength;
        await this.#weights.read(names[i]!, part);
        this.#onRead(byteLength);
      }),
    );
    return this.#give(
      scope(() => cast(tensorOfBytes(bytes, shape, DTYPE_NAMES[entries[0]!.dtype as FloatDtype]), dtype)),
    );
  }

  #give(tensor: Tensor): Tensor {
    this.#given.push(tensor);
    return keep(tensor);
  }
}

/** All results, when nothing is under way any more. @throws the first error */
export async function settled<const Results extends readonly unknown[]>(
  promises: Results,
): Promise<{ -readonly [Index in keyof Results]: Awaited<Results[Index]> }> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}
