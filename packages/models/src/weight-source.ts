import {
  type LinearLayer,
  locateTensor,
  type ModelFolder,
  readWeights,
  type WeightTarget,
} from '@lorasmith/model-folder';
import {
  concat,
  dispose,
  type FloatDType,
  keep,
  scope,
  type Tensor,
  tensorOfMapping,
  transpose,
} from '@lorasmith/tensor';
import { giveAway, type Region } from '@lorasmith/weight-io';
import { DenseLinear, type LinearGroup } from './frozen-linear.js';

export interface LoadOptions {
  /** Called as bytes arrive. Loading ends with what it throws. */
  onProgress?: ((progress: { readBytes: number; totalBytes: number }) => void) | undefined;
  /** Called at the end with the sha256 of each weight file, in their order. Each is hashed as it is read. */
  onHashed?: ((sha256s: string[]) => void) | undefined;
  /** See OutputHead. @defaultValue LOGITS_PER_CHUNK */
  logitsInChunk?: number | undefined;
}

const STORED_AS = { float32: 'F32', bfloat16: 'BF16' } as const;

/** Reads a base model's tensors into the engine. What it gives is out of every scope: the caller's to free. */
export class WeightSource {
  readonly #folder: ModelFolder;
  readonly #dtype: FloatDType;
  readonly #targets: WeightTarget[] = [];
  readonly #rejections: ((error: unknown) => void)[] = [];
  readonly #given: Tensor[] = [];
  #isReading = false;

  private constructor(folder: ModelFolder, dtype: FloatDType) {
    this.#folder = folder;
    this.#dtype = dtype;
  }

  /**
   * The weights of a model for `use`. It asks for all tensors before it waits for the first one, so that each file is read once, in its
   * order. When `use` or reading fails, what was given is freed.
   */
  static async reading<Result>(
    folder: ModelFolder,
    dtype: FloatDType,
    options: LoadOptions,
    use: (source: WeightSource) => Promise<Result>,
  ): Promise<Result> {
    const source = new WeightSource(folder, dtype);
    const failures: unknown[] = [];
    const used = use(source);
    used.catch((error) => failures.push(error));
    try {
      await source.#read(options, () => {
        if (failures.length > 0) throw failures[0];
      });
      return await used;
    } catch (error) {
      for (const reject of source.#rejections) reject(error);
      await used.catch(() => {});
      dispose(source.#given);
      throw error;
    }
  }

  /** @param dtype of the result; default: what the model computes in */
  async tensor(name: string, dtype: FloatDType = this.#dtype): Promise<Tensor> {
    return await this.#stacked([name], dtype);
  }

  /** Linear layers with the same input, stacked. Either all have a bias or none. */
  async linearGroup(layers: readonly LinearLayer[]): Promise<LinearGroup> {
    const biases = layers.flatMap(({ bias }) => bias ?? []);
    if (biases.length > 0 && biases.length < layers.length) throw new Error('stacked layers have a bias all or none');
    const [weight, bias] = await Promise.all([
      this.#weight(layers), // [Σ out, in]
      biases.length === 0 ? null : this.#stacked(biases), // [Σ out]
    ]);
    return { modules: layers, linear: new DenseLinear(weight, bias) };
  }

  /** A tensor that was made of given ones, freed like them when loading fails. */
  give(tensor: Tensor): Tensor {
    this.#given.push(tensor);
    return keep(tensor);
  }

  /** `[Σ out, in]` */
  async #weight(layers: readonly LinearLayer[]): Promise<Tensor> {
    if (layers.every(({ transposed }) => !transposed)) return await this.#stacked(layers.map(({ weight }) => weight));
    const stored = await Promise.all(layers.map(({ weight }) => this.tensor(weight)));
    const turned = scope(() =>
      concat(
        stored.map((one, i) => (layers[i]!.transposed ? transpose(one, [1, 0]) : one)),
        0,
      ),
    );
    dispose(stored);
    return this.give(turned);
  }

  /** Tensors that differ in their first axis only, one below the other, in memory that the engine takes over without a copy. */
  async #stacked(names: readonly string[], dtype: FloatDType = this.#dtype): Promise<Tensor> {
    const shapes = names.map((name) => locateTensor(this.#folder, name).entry.shape);
    const [first, ...others] = shapes[0]!;
    const rows = shapes.reduce((sum, [own]) => sum + (own ?? 1), 0);
    const shape = first === undefined ? [] : [rows, ...others];
    if (this.#isReading) throw new Error(`${names.join()} is asked for too late`);
    return await new Promise((resolve, reject) => {
      this.#rejections.push(reject);
      const onFilled = (region: Region) => resolve(this.give(tensorOfMapping(giveAway(region), shape, dtype)));
      this.#targets.push({ names, dtype: STORED_AS[dtype], onFilled });
    });
  }

  async #read({ onProgress, onHashed }: LoadOptions, throwIfFailed: () => void): Promise<void> {
    this.#isReading = true;
    let readBytes = 0;
    const onRead = (bytes: number) => {
      throwIfFailed();
      readBytes += bytes;
      onProgress?.({ readBytes, totalBytes: this.#folder.weightBytes });
    };
    const sha256s = await readWeights(this.#folder, this.#targets, { hash: onHashed !== undefined, onRead });
    if (sha256s !== null) onHashed?.(sha256s);
  }
}
