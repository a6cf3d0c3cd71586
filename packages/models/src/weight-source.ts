import {
  checkDecays,
  checkFactor,
  checkRouter,
  type ExpertParameter,
  expertsStayQuantized,
  type LinearLayer,
  locateTensor,
  type ModelFolder,
  readWeights,
  staysQuantized,
  type WeightTarget,
} from '@lorasmith/model-folder';
import {
  concat,
  dispose,
  type FloatDType,
  keep,
  kernelsFor,
  type PackedMatrix,
  type PackedRows,
  reshape,
  scope,
  type Tensor,
  tensorOfMapping,
  toFloat32Array,
  transpose,
  weightsHaveMargins,
  withMargin,
} from '@lorasmith/tensor';
import { giveAway, type Region } from '@lorasmith/weight-io';
import { DenseExperts, type FrozenExperts, PackedExperts } from './frozen-experts.js';
import { DenseLinear, type FrozenLinear, type LinearGroup, MarginLinear } from './frozen-linear.js';
import { QuantizedLinear } from './quantized-linear.js';
import { readPacked } from './weight-formats/read-packed.js';
import type { Filling, TensorReading } from './weight-formats/tensor-reading.js';

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
  readonly #reading: TensorReading;
  #isReading = false;
  #hasFailed = false;

  private constructor(folder: ModelFolder, dtype: FloatDType) {
    this.#folder = folder;
    this.#dtype = dtype;
    this.#reading = {
      folder,
      filled: (names, filling) => this.#filled(names, filling),
      read: (names, to) => this.#read(names, to),
      adopted: (region, shape, of) => this.#adopted(region, shape, of),
      give: (tensor) => this.give(tensor),
    };
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
      await source.#readAll(options, () => {
        if (failures.length > 0) throw failures[0];
      });
      return await used;
    } catch (error) {
      source.#hasFailed = true;
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

  /** Tensors one behind the other, as one of this shape; those in 4 bits are decoded. */
  async #joined(names: readonly string[], shape: readonly number[]): Promise<Tensor> {
    if (!names.some((name) => this.#isPacked(name))) {
      return await this.#filled(names, { dtype: STORED_AS[this.#dtype], tensorDtype: this.#dtype, shape });
    }
    const rows = await this.#weight(names.map((weight) => ({ weight, transposed: false })));
    const joined = this.give(reshape(rows, shape));
    dispose(rows);
    return joined;
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

  /** The number of a tensor `[1]`. @throws ProductError model_file_corrupt for one that is not finite */
  async factor(name: string): Promise<number> {
    const tensor = await this.tensor(name, 'float32');
    const [factor] = toFloat32Array(tensor) as Iterable<number>;
    dispose(tensor);
    checkFactor(this.#folder, name, factor!);
    return factor!;
  }

  /** @throws ProductError model_file_corrupt, as {@link checkDecays} of model-folder */
  checkDecays(name: string, decayLogs: Tensor): void {
    checkDecays(this.#folder, name, toFloat32Array(decayLogs));
  }

  /**
   * A router's weight `[experts, hidden]`, or its bias `[experts]`, in float32.
   * @throws ProductError model_file_corrupt for a number that is not finite
   */
  async router(name: string): Promise<Tensor> {
    const weight = await (this.#isPacked(name) ? this.#decoded(name, 'float32') : this.tensor(name, 'float32'));
    checkRouter(this.#folder, name, toFloat32Array(weight), weight.shape[1] ?? 1);
    return weight;
  }

  /** The same as a linear layer without a bias. @throws ProductError model_file_corrupt for a number that is not finite */
  async routerGroup(layer: LinearLayer): Promise<LinearGroup> {
    return { modules: [layer], linear: new DenseLinear(await this.router(layer.weight), null) };
  }

  /**
   * A number of each expert, `[experts]`.
   * @throws ProductError model_file_corrupt for a number that is not finite
   */
  async ofExperts(name: string): Promise<Float32Array> {
    const tensor = await this.tensor(name, 'float32');
    const numbers = toFloat32Array(tensor);
    dispose(tensor);
    checkRouter(this.#folder, name, numbers, 1);
    return numbers;
  }

  /**
   * The weights of a layer's experts.
   * @throws ProductError model_file_corrupt for a scale that is no number, or too large; for a number that is not finite, where they
   *   are quantized here
   */
  async experts(parameter: ExpertParameter): Promise<FrozenExperts> {
    const { experts, outFeatures, inFeatures, tensors, transposed = false } = parameter;
    const names = tensors.map(({ name }) => name);
    if (!expertsStayQuantized(this.#folder.quantized, parameter)) {
      const sizes = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
      return new DenseExperts(await this.#joined(names, [experts, ...sizes]), { transposed });
    }
    const weights = names.filter((name) => this.#folder.quantized.has(name));
    // A weight of several experts has the rows of each.
    const ofOne = this.#folder.quantized.get(weights[0]!)!.shape.length === 2;
    const settings = { computeDtype: this.#dtype, transposed: transposed && ofOne };
    return new PackedExperts(await this.#packed<PackedRows>(weights), experts, settings);
  }

  /** A tensor that was made of given ones, freed like them when loading fails. */
  give(tensor: Tensor): Tensor {
    keep(tensor);
    if (this.#hasFailed) {
      dispose(tensor);
      throw new Error('loading has failed');
    }
    this.#given.push(tensor);
    return tensor;
  }

  /** @returns the linear layer with a bias */
  async #linear(layers: readonly LinearLayer[]): Promise<(bias: Tensor | null) => FrozenLinear> {
    if (staysQuantized(this.#folder.quantized, layers)) {
      const matrix = await this.#packed<PackedMatrix>(layers.map((layer) => layer.weight));
      return (bias) => new QuantizedLinear(matrix, bias, this.#dtype);
    }
    const weight = await this.#weight(layers);
    if (!weightsHaveMargins(this.#dtype)) return (bias) => new DenseLinear(weight, bias);
    const margined = withMargin(weight);
    this.give(margined.tensor);
    dispose(weight);
    return (bias) => new MarginLinear(margined, bias);
  }

  /** `[Σ out, in]` */
  async #weight(layers: readonly Pick<LinearLayer, 'weight' | 'transposed'>[]): Promise<Tensor> {
    const isStoredSo = ({ transposed, weight }: (typeof layers)[number]) => !transposed && !this.#isPacked(weight);
    if (layers.every(isStoredSo)) return await this.#stacked(layers.map(({ weight }) => weight));
    const stored = await Promise.all(
      layers.map((layer) => (this.#isPacked(layer.weight) ? this.#decoded(layer.weight) : this.tensor(layer.weight))),
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

  /** Weights that stay quantized, one below the other. */
  async #packed<Packed extends PackedRows>(names: readonly string[]): Promise<Packed> {
    const weights = names.map((name) => this.#folder.quantized.get(name)!);
    return await readPacked<Packed>(this.#reading, names, weights);
  }

  /** True for a quantized weight that is not decoded as it is read. */
  #isPacked(name: string): boolean {
    return this.#folder.quantized.get(name)?.decodedBy === null;
  }

  /** A quantized weight, `[out, in]`. @param dtype of the result; default: what the model computes in */
  async #decoded(name: string, dtype: FloatDType = this.#dtype): Promise<Tensor> {
    const matrix = await this.#packed<PackedMatrix>([name]);
    const weight = kernelsFor(dtype).dequantizeRows(matrix, 0, matrix.rows, dtype);
    matrix.dispose();
    return this.give(weight);
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
    const { own } = await this.#read(names, dtype);
    return this.#adopted(own, shape, tensorDtype);
  }

  async #read(names: readonly string[], dtype: WeightTarget['dtype']): Promise<{ own: Region; scales: Region | null }> {
    if (this.#isReading) throw new Error(`${names.join()} is asked for too late`);
    return await new Promise((resolve, reject) => {
      this.#rejections.push(reject);
      this.#targets.push({ names, dtype, onFilled: (own, scales) => resolve({ own, scales }) });
    });
  }

  #adopted(region: Region, shape: readonly number[], dtype: FloatDType | 'uint8'): Tensor {
    return this.give(tensorOfMapping(giveAway(region), shape, dtype));
  }

  async #readAll({ onProgress, onHashed }: LoadOptions, throwIfFailed: () => void): Promise<void> {
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
