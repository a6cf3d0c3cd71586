import {
  checkDecays,
  checkFactor,
  checkRouter,
  type ExpertParameter,
  expertsStayQuantized,
  type LinearLayer,
  locateTensor,
  type ModelFolder,
  staysQuantized,
} from '@lorasmith/model-folder';
import {
  concat,
  dispose,
  type FloatDType,
  type KernelSet,
  type PackedMatrix,
  type PackedRows,
  padWeight,
  reshape,
  scope,
  type Tensor,
  toFloat32Array,
  transpose,
} from '@lorasmith/tensor';
import { DenseExperts, type FrozenExperts, PackedExperts } from '../frozen-experts.js';
import { DenseLinear, type FrozenLinear, type LinearGroup, PaddedLinear, QuantizedLinear } from '../frozen-linear.js';
import { listPacked } from '../weight-formats/list-packed.js';
import { built, filled, type Listed, made, type ReadItem } from './listed.js';

const STORED_AS = { float32: 'F32', bfloat16: 'BF16' } as const;

/** The parts that a base model can have, each listed by the names of its tensors. */
export class WeightList {
  readonly #folder: ModelFolder;
  readonly #dtype: FloatDType;
  /** The kernels that the model computes with. */
  readonly kernels: KernelSet;

  /** @param dtype in which the model computes */
  constructor(folder: ModelFolder, dtype: FloatDType, kernels: KernelSet) {
    this.#folder = folder;
    this.#dtype = dtype;
    this.kernels = kernels;
  }

  /** @param dtype of the result; default: what the model computes in */
  tensor(name: string, dtype: FloatDType = this.#dtype): ReadItem<Tensor> {
    return this.#stacked([name], dtype);
  }

  /** Linear layers with the same input, stacked. Either all have a bias or none. */
  linearGroup(layers: readonly LinearLayer[]): Listed<LinearGroup> {
    const biases = layers.flatMap(({ bias }) => bias ?? []);
    if (biases.length > 0 && biases.length < layers.length) throw new Error('stacked layers have a bias all or none');
    const bias = biases.length === 0 ? null : this.#stacked(biases); // [Σ out]
    return built({ linear: this.#linear(layers, bias) }, ({ linear }) => ({ modules: layers, linear }));
  }

  /** The number of a tensor `[1]`. @throws ProductError model_file_corrupt for one that is not finite */
  factor(name: string): ReadItem<number> {
    return made({ tensor: this.tensor(name, 'float32') }, ({ tensor }) => {
      const [factor] = toFloat32Array(tensor) as Iterable<number>;
      dispose(tensor);
      checkFactor(this.#folder, name, factor!);
      return factor!;
    });
  }

  /** The logarithms of decays, in float32. @throws ProductError model_file_corrupt, as {@link checkDecays} of model-folder */
  decays(name: string): ReadItem<Tensor> {
    return made({ decayLogs: this.tensor(name, 'float32') }, ({ decayLogs }) => {
      checkDecays(this.#folder, name, toFloat32Array(decayLogs));
      return decayLogs;
    });
  }

  /**
   * A router's weight `[experts, hidden]`, or its bias `[experts]`, in float32.
   * @throws ProductError model_file_corrupt for a number that is not finite
   */
  router(name: string): ReadItem<Tensor> {
    const stored = this.#isReadAsStored(name) ? this.#decoded(name, 'float32') : this.tensor(name, 'float32');
    return made({ weight: stored }, ({ weight }) => {
      checkRouter(this.#folder, name, toFloat32Array(weight), weight.shape[1] ?? 1);
      return weight;
    });
  }

  /** The same as a linear layer without a bias. @throws ProductError model_file_corrupt for a number that is not finite */
  routerGroup(layer: LinearLayer): Listed<LinearGroup> {
    return built({ weight: this.router(layer.weight) }, ({ weight }) => {
      return { modules: [layer], linear: new DenseLinear(this.kernels, weight, null) };
    });
  }

  /**
   * A number of each expert, `[experts]`.
   * @throws ProductError model_file_corrupt for a number that is not finite
   */
  ofExperts(name: string): ReadItem<Float32Array> {
    return made({ tensor: this.tensor(name, 'float32') }, ({ tensor }) => {
      const numbers = toFloat32Array(tensor);
      dispose(tensor);
      checkRouter(this.#folder, name, numbers, 1);
      return numbers;
    });
  }

  /**
   * The weights of a layer's experts.
   * @throws ProductError model_file_corrupt for a scale that is no number, or too large; for a number that is not finite, where they
   *   are quantized here
   */
  experts(parameter: ExpertParameter): Listed<FrozenExperts> {
    const { experts, outFeatures, inFeatures, tensors, transposed = false } = parameter;
    const names = tensors.map(({ name }) => name);
    if (!expertsStayQuantized(this.#folder.quantized, parameter)) {
      const sizes = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
      const joined = this.#joined(names, [experts, ...sizes]);
      return built({ joined }, (read) => new DenseExperts(this.kernels, read.joined, { transposed }));
    }
    const own = names.filter((name) => this.#folder.quantized.has(name));
    // A weight of several experts has the rows of each.
    const ofOne = this.#folder.quantized.get(own[0]!)!.shape.length === 2;
    const settings = { computeDtype: this.#dtype, transposed: transposed && ofOne };
    const packed = this.#packed<PackedRows>(own);
    return built({ packed }, (read) => new PackedExperts(this.kernels, read.packed, experts, settings));
  }

  #linear(layers: readonly LinearLayer[], bias: ReadItem<Tensor> | null): Listed<FrozenLinear> {
    if (staysQuantized(this.#folder.quantized, layers)) {
      const matrix = this.#packed<PackedMatrix>(layers.map((layer) => layer.weight));
      return built({ matrix, bias }, (read) => new QuantizedLinear(this.kernels, read.matrix, read.bias, this.#dtype));
    }
    const weight = this.#weight(layers);
    if (!this.kernels.weightsArePadded(this.#dtype))
      return built({ weight, bias }, (read) => new DenseLinear(this.kernels, read.weight, read.bias));
    const padded = made({ weight }, (read, give) => {
      const withOne = padWeight(read.weight);
      give(withOne.tensor);
      dispose(read.weight);
      return withOne;
    });
    return built({ padded, bias }, (read) => new PaddedLinear(this.kernels, read.padded, read.bias));
  }

  /** Tensors one behind the other, as one of this shape; those in 4 bits are decoded. */
  #joined(names: readonly string[], shape: readonly number[]): ReadItem<Tensor> {
    if (!names.some((name) => this.#isReadAsStored(name))) {
      return filled(names, { dtype: STORED_AS[this.#dtype], tensorDtype: this.#dtype, shape });
    }
    const stored = this.#weight(names.map((weight) => ({ weight, transposed: false })));
    return made({ rows: stored }, ({ rows }, give) => {
      const joined = give(reshape(rows, shape));
      dispose(rows);
      return joined;
    });
  }

  /** `[Σ out, in]` */
  #weight(layers: readonly Pick<LinearLayer, 'weight' | 'transposed'>[]): ReadItem<Tensor> {
    const isStoredSo = ({ transposed, weight }: (typeof layers)[number]) =>
      !transposed && !this.#isReadAsStored(weight);
    if (layers.every(isStoredSo)) return this.#stacked(layers.map(({ weight }) => weight));
    const each = layers.map(({ weight }) =>
      this.#isReadAsStored(weight) ? this.#decoded(weight) : this.tensor(weight),
    );
    return made({ each }, ({ each: stored }, give) => {
      const turned = scope(() =>
        concat(
          stored.map((one, i) => (layers[i]!.transposed ? transpose(one, [1, 0]) : one)),
          0,
        ),
      );
      dispose(stored);
      return give(turned);
    });
  }

  /** Weights that stay quantized, one below the other. */
  #packed<Packed extends PackedRows>(names: readonly string[]): ReadItem<Packed> {
    const weights = names.map((name) => this.#folder.quantized.get(name)!);
    return listPacked<Packed>(this.#folder, names, weights);
  }

  /** True for a quantized weight whose bytes are read as they are stored: nothing decodes them on the way. */
  #isReadAsStored(name: string): boolean {
    return this.#folder.quantized.get(name)?.decodedBy === null;
  }

  /** A quantized weight, `[out, in]`. @param dtype of the result; default: what the model computes in */
  #decoded(name: string, dtype: FloatDType = this.#dtype): ReadItem<Tensor> {
    return made({ packed: this.#packed<PackedMatrix>([name]) }, ({ packed }, give) => {
      const weight = this.kernels.of(dtype).dequantizeRows(packed, 0, packed.rows, dtype);
      packed.dispose();
      return give(weight);
    });
  }

  /** Tensors that differ in their first axis only, one below the other. */
  #stacked(names: readonly string[], dtype: FloatDType = this.#dtype): ReadItem<Tensor> {
    const shapes = names.map((name) => locateTensor(this.#folder, name).entry.shape);
    const [first, ...others] = shapes[0]!;
    const rows = shapes.reduce((sum, [own]) => sum + (own ?? 1), 0);
    const shape = first === undefined ? [] : [rows, ...others];
    return filled(names, { dtype: STORED_AS[dtype], tensorDtype: dtype, shape });
  }
}
