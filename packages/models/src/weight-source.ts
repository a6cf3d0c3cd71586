import {
  checkDecays,
  checkFactor,
  checkMxfp4Scales,
  checkRouter,
  checkScales,
  type ExpertParameter,
  expertsStayQuantized,
  isNested,
  type LinearLayer,
  locateTensor,
  type MadeWeight,
  type ModelFolder,
  type Mxfp4Weight,
  nestedScaleCount,
  readWeights,
  type ScaledWeight,
  type StoredWeight,
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
  Mxfp4Matrices,
  QuantizedMatrix,
  type QuantizedModule,
  reshape,
  ScaledMatrix,
  scope,
  type Tensor,
  tensorOfMapping,
  toFloat32Array,
  transpose,
  weightsHaveMargins,
  withMargin,
} from '@lorasmith/tensor';
import { giveAway, NF4_VALUES, quantizeScales, type Region, SCALE_VALUES } from '@lorasmith/weight-io';
import { DenseExperts, type FrozenExperts, PackedExperts } from './frozen-experts.js';
import { DenseLinear, type FrozenLinear, type LinearGroup, MarginLinear } from './frozen-linear.js';
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

/** The parts of a {@link QuantizedMatrix}. */
interface QuantizedParts {
  modules: QuantizedModule[];
  codes: Tensor;
  scales: Tensor;
  nestedScales: Tensor | null;
}

function total<Weight>(weights: readonly Weight[], countOf: (weight: Weight) => number): number {
  return weights.reduce((sum, weight) => sum + countOf(weight), 0);
}

/** The matrices of tensors that are quantized as they are read, each by itself. */
function matricesOf(tensors: readonly MadeWeight[]): MadeWeight[] {
  return tensors.flatMap(({ matrices = 1, ...one }) => Array.from({ length: matrices }, () => one));
}

function codeBytes({ shape: [rows, columns] }: Pick<MadeWeight, 'shape'>): number {
  return Math.ceil((rows * columns) / 2);
}

/** Reads a base model's tensors into the engine. What it gives is out of every scope: the caller's to free. */
export class WeightSource {
  readonly #folder: ModelFolder;
  readonly #dtype: FloatDType;
  readonly #targets: WeightTarget[] = [];
  readonly #rejections: ((error: unknown) => void)[] = [];
  readonly #given: Tensor[] = [];
  #isReading = false;
  #hasFailed = false;

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
    const settings = { computeDtype: this.#dtype, transposed };
    if (!expertsStayQuantized(this.#folder.quantized, parameter)) {
      const sizes = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
      return new DenseExperts(await this.#joined(names, [experts, ...sizes]), { transposed });
    }
    const first = this.#folder.quantized.get(names[0]!);
    if (first?.form !== 'mxfp4') return new PackedExperts(await this.#packed(names), experts, settings);
    // Its rows are those of [experts, out, in].
    return new PackedExperts(await this.#mxfp4(names[0]!, first), experts, { computeDtype: this.#dtype });
  }

  /** The weights of experts that the files have in MXFP4. @param name of the tensor of the codes */
  async #mxfp4(name: string, weight: Mxfp4Weight): Promise<Mxfp4Matrices> {
    const bytes = (part: string) =>
      this.#filled([part], {
        ...{ dtype: 'U8', tensorDtype: 'uint8' },
        shape: [locateTensor(this.#folder, part).entry.byteLength],
      });
    const [codes, scales] = await Promise.all([bytes(name), bytes(weight.scales)]);
    checkMxfp4Scales(this.#folder, weight.scales, toFloat32Array(scales));
    return new Mxfp4Matrices(weight.shape, codes, scales);
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
      const matrix = await this.#packed(layers.map((layer) => layer.weight));
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

  /** Weights that stay in 4 or 8 bits, one below the other. */
  async #packed(names: readonly string[]): Promise<QuantizedMatrix | ScaledMatrix> {
    const scaled = this.#scaledWeights(names);
    return await (scaled.length > 0 ? this.#scaled(names, scaled) : this.#quantized(names));
  }

  #scaledWeights(names: readonly string[]): ScaledWeight[] {
    const weights = names.map((name) => this.#folder.quantized.get(name));
    return weights.filter((weight) => weight?.form === 'scaled');
  }

  /** Weights in 8 bits, one below the other. */
  async #scaled(names: readonly string[], weights: readonly ScaledWeight[]): Promise<ScaledMatrix> {
    const { columns, block } = weights[0]!.blocks;
    const codes = await this.#filled(names, {
      ...{ dtype: 'U8', tensorDtype: 'uint8' },
      shape: [total(weights, ({ shape: [rows] }) => rows * columns)],
    });
    const modules = weights.map(({ shape: [rows], blocks }) => {
      return { rows, blockRows: blocks.block[0], scales: blocks.scales };
    });
    const matrix = new ScaledMatrix(columns, block[1], modules, codes);
    this.give(matrix.scales);
    this.give(matrix.bands);
    return matrix;
  }

  /** Whether a weight is in 4 bits. One in 8 bits is decoded as it is read, where it does not stay so. */
  #isPacked(name: string): boolean {
    const weight = this.#folder.quantized.get(name);
    return weight !== undefined && weight.form !== 'scaled';
  }

  /** A quantized weight, `[out, in]`. @param dtype of the result; default: what the model computes in */
  async #decoded(name: string, dtype: FloatDType = this.#dtype): Promise<Tensor> {
    const matrix = await this.#quantized([name]);
    const weight = kernelsFor(dtype).dequantizeRows(matrix, 0, matrix.rows, dtype);
    matrix.dispose();
    return this.give(weight);
  }

  /** Quantized weights, one below the other: all are stored so, or all are made. */
  async #quantized(names: readonly string[]): Promise<QuantizedMatrix> {
    const weights = names.map((name) => this.#folder.quantized.get(name)!);
    const made = weights.filter((weight) => weight.form === 'made');
    const stored = weights.filter((weight) => weight.form === 'stored');
    const { modules, ...tensors } = await (made.length > 0 ? this.#made(names, made) : this.#stored(names, stored));
    const { scales, nestedScales } = tensors;
    const read = scope(() => toFloat32Array(nestedScales ?? bytesAsFloat32(scales)));
    checkScales(this.#folder, names, [...made, ...stored], read);
    const matrix = new QuantizedMatrix(weights[0]!.shape[1], modules, tensors);
    this.give(matrix.table);
    return matrix;
  }

  /** The parts of weights that the files have in 4 bits. */
  async #stored(names: readonly string[], weights: readonly StoredWeight[]): Promise<QuantizedParts> {
    const withNested = isNested(weights[0]!);
    const scaleNames = weights.map(({ scales }) => scales);
    const [codes, scales, nestedScales] = await Promise.all([
      this.#filled(names, { dtype: 'U8', tensorDtype: 'uint8', shape: [total(weights, codeBytes)] }),
      withNested
        ? this.#filled(scaleNames, { dtype: 'U8', tensorDtype: 'uint8', shape: [total(weights, scaleCount)] })
        : this.#filled(scaleNames, { dtype: 'F32', tensorDtype: 'uint8', shape: [total(weights, scaleCount), 4] }),
      withNested
        ? this.#filled(
            weights.map(({ nested }) => nested!.scales),
            { dtype: 'F32', tensorDtype: 'float32', shape: [total(weights, nestedScaleCount)] },
          )
        : null,
    ]);
    const modules = weights.map(({ shape: [rows], values, nested }) => ({ rows, values, nested }));
    return { modules, codes, scales, nestedScales };
  }

  /** The parts of weights that are quantized as they are read. */
  async #made(names: readonly string[], tensors: readonly MadeWeight[]): Promise<QuantizedParts> {
    const weights = matricesOf(tensors);
    const { own, scales } = await this.#read(names, 'NF4');
    const codes = this.#adopted(own, [total(weights, codeBytes)], 'uint8');
    const { codes: scaleCodes, nested, offsets } = await quantizeScales(scales!, weights.map(scaleCount));
    return {
      modules: weights.map(({ shape: [rows] }, i) => {
        return { rows, values: NF4_VALUES, nested: { values: SCALE_VALUES, offset: offsets[i]! } };
      }),
      codes,
      scales: this.#adopted(scaleCodes, [total(weights, scaleCount)], 'uint8'),
      nestedScales: this.#adopted(nested, [total(weights, nestedScaleCount)], 'float32'),
    };
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
