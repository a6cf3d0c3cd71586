import {
  checkDecays,
  checkScales,
  type LinearLayer,
  locateTensor,
  type ModelFolder,
  nestedScaleCount,
  type QuantizedWeight,
  readWeights,
  scaleCount,
  staysQuantized,
  type WeightTarget,
} from '@lorasmith/model-folder';
import {
  bytesAsFloat32,
  concat,
  dispose,
  type FloatDType,
  keep,
  kernelsFor,
  QuantizedMatrix,
  scope,
  type Tensor,
  tensorOfMapping,
  toFloat32Array,
  transpose,
} from '@lorasmith/tensor';
import { giveAway, type Region } from '@lorasmith/weight-io';
import { DenseLinear, type FrozenLinear, type LinearGroup } from './frozen-linear.js';
import { QuantizedLinear } from './quantized-linear.js';

export interface LoadOptions {
  /** Called as bytes arrive. Loading ends with what it throws. */
  onProgress?: ((progress: { readBytes: number; totalBytes: number }) => void) | undefined;
  /** Called at the end with the sha256 of each weight file, in their order. Each is hashed as it is read. */
  onHashed?: ((sha256s: string[]) => void) | undefined;
  /** See OutputHead. @defaultValue LOGITS_PER_CHUNK */
  logitsInChunk?: number | undefined;
}

const STORED_AS = { float32: 'F32', bfloat16: 'BF16' } as const;

/** How tensors of the files become one of the engine. */
interface Filling {
  dtype: WeightTarget['dtype'];
  tensorDtype: FloatDType | 'uint8';
  shape: readonly number[];
}

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
    const [linear, bias] = await Promise.all([
      this.#linear(layers),
      biases.length === 0 ? null : this.#stacked(biases), // [Σ out]
    ]);
    return { modules: layers, linear: linear(bias) };
  }

  /** @throws ProductError model_file_corrupt, as {@link checkDecays} of model-folder */
  checkDecays(name: string, decayLogs: Tensor): void {
    checkDecays(this.#folder, name, toFloat32Array(decayLogs));
  }

  /** A tensor that was made of given ones, freed like them when loading fails. */
  give(tensor: Tensor): Tensor {
    this.#given.push(tensor);
    return keep(tensor);
  }

  /** @returns the linear layer with a bias */
  async #linear(layers: readonly LinearLayer[]): Promise<(bias: Tensor | null) => FrozenLinear> {
    if (staysQuantized(this.#folder.quantized, layers)) {
      const matrix = await this.#quantized(layers);
      return (bias) => new QuantizedLinear(matrix, bias, this.#dtype);
    }
    const weight = await this.#weight(layers);
    return (bias) => new DenseLinear(weight, bias);
  }

  /** `[Σ out, in]` */
  async #weight(layers: readonly LinearLayer[]): Promise<Tensor> {
    const isStoredSo = ({ transposed, weight }: LinearLayer) => !transposed && !this.#folder.quantized.has(weight);
    if (layers.every(isStoredSo)) return await this.#stacked(layers.map(({ weight }) => weight));
    const stored = await Promise.all(
      layers.map((layer) =>
        this.#folder.quantized.has(layer.weight) ? this.#decoded(layer) : this.tensor(layer.weight),
      ),
    );
    const turned = scope(() =>
      concat(
        stored.map((one, i) => (layers[i]!.transposed ? transpose(one, [1, 0]) : one)),
        0,
      ),
    );
    dispose(stored);
    return this.give(turned);
  }

  /** A quantized weight, `[out, in]` in the dtype that the model computes in. */
  async #decoded(layer: LinearLayer): Promise<Tensor> {
    const matrix = await this.#quantized([layer]);
    const weight = kernelsFor(this.#dtype).dequantizeRows(matrix, 0, matrix.rows, this.#dtype);
    matrix.dispose();
    return this.give(weight);
  }

  /** Quantized weights, one below the other. */
  async #quantized(layers: readonly LinearLayer[]): Promise<QuantizedMatrix> {
    const weights = layers.map(({ weight }) => this.#folder.quantized.get(weight)!);
    const isNested = weights[0]!.nested !== null;
    const total = (countOf: (weight: QuantizedWeight) => number) =>
      weights.reduce((sum, weight) => sum + countOf(weight), 0);
    const [codes, scales, nestedScales] = await Promise.all([
      this.#filled(
        layers.map(({ weight }) => weight),
        {
          dtype: 'U8',
          tensorDtype: 'uint8',
          shape: [total(({ shape: [rows, columns] }) => Math.ceil((rows * columns) / 2))],
        },
      ),
      this.#filled(
        weights.map((weight) => weight.scales),
        isNested
          ? { dtype: 'U8', tensorDtype: 'uint8', shape: [total(scaleCount)] }
          : { dtype: 'F32', tensorDtype: 'uint8', shape: [total(scaleCount), 4] },
      ),
      isNested
        ? this.#filled(
            weights.map(({ nested }) => nested!.scales),
            { dtype: 'F32', tensorDtype: 'float32', shape: [total(nestedScaleCount)] },
          )
        : null,
    ]);
    const read = scope(() => toFloat32Array(nestedScales ?? bytesAsFloat32(scales)));
    checkScales(this.#folder, weights, read);
    const modules = weights.map(({ shape: [rows], values, nested }) => ({ rows, values, nested }));
    const matrix = new QuantizedMatrix(weights[0]!.shape[1], modules, { codes, scales, nestedScales });
    this.give(matrix.table);
    return matrix;
  }

  /** Tensors that differ in their first axis only, one below the other, in memory that the engine takes over without a copy. */
  async #stacked(names: readonly string[], dtype: FloatDType = this.#dtype): Promise<Tensor> {
    const shapes = names.map((name) => locateTensor(this.#folder, name).entry.shape);
    const [first, ...others] = shapes[0]!;
    const rows = shapes.reduce((sum, [own]) => sum + (own ?? 1), 0);
    const shape = first === undefined ? [] : [rows, ...others];
    return await this.#filled(names, { dtype: STORED_AS[dtype], tensorDtype: dtype, shape });
  }

  /** A tensor of what is read of others, one behind the other. */
  async #filled(names: readonly string[], { dtype, tensorDtype, shape }: Filling): Promise<Tensor> {
    if (this.#isReading) throw new Error(`${names.join()} is asked for too late`);
    return await new Promise((resolve, reject) => {
      this.#rejections.push(reject);
      const onFilled = (region: Region) => resolve(this.give(tensorOfMapping(giveAway(region), shape, tensorDtype)));
      this.#targets.push({ names, dtype, onFilled });
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
