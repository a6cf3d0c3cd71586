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
import { FrozenProjection, ProjectionSlot } from './projection.js';

export interface LoadOptions {
  /** Called as bytes arrive. */
  onProgress?: ((progress: { readBytes: number; totalBytes: number }) => void) | undefined;
}

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
    const { dtype: stored, shape } = this.#weights.entry(name);
    const bytes = await this.#weights.read(name);
    this.#onRead(bytes.byteLength);
    return this.#give(scope(() => cast(tensorOfBytes(bytes, shape, DTYPE_NAMES[stored as FloatDtype]), dtype)));
  }

  /** Linear layers with the same input, stacked. Either all have a bias or none. */
  async projection(layers: readonly LinearLayer[]): Promise<ProjectionSlot> {
    const weight = await this.#stacked(layers.map((layer) => () => this.#weight(layer))); // [sum of out, in]
    const biases = layers.flatMap(({ bias }) => bias ?? []);
    if (biases.length > 0 && biases.length < layers.length) throw new Error('stacked layers have a bias all or none');
    const bias = biases.length === 0 ? null : await this.#stacked(biases.map((name) => () => this.tensor(name))); // [sum of out]
    return new ProjectionSlot(layers, layers[0]!.inFeatures, new FrozenProjection(weight, bias));
  }

  /** `[out, in]` */
  async #weight({ weight, transposed }: LinearLayer): Promise<Tensor> {
    const stored = await this.tensor(weight);
    if (!transposed) return stored;
    const turned = this.#give(scope(() => transpose(stored, [1, 0])));
    dispose(stored);
    return turned;
  }

  async #stacked(reads: readonly (() => Promise<Tensor>)[]): Promise<Tensor> {
    const parts: Tensor[] = [];
    for (const read of reads) parts.push(await read());
    if (parts.length === 1) return parts[0]!;
    const stacked = this.#give(scope(() => concat(parts, 0)));
    dispose(parts);
    return stacked;
  }

  #give(tensor: Tensor): Tensor {
    this.#given.push(tensor);
    return keep(tensor);
  }
}
