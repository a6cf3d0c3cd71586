import { ProductError } from '@lorasmith/contracts';
import { DTYPE_NAMES, type ModelFolder } from '@lorasmith/model-folder';
import { DenseLinear, type GroupAdapter, type LinearGroup, type ModelAdapter } from '@lorasmith/models';
import { ofExpert, type PeftAdapter, type PeftModule } from '@lorasmith/peft-files';
import {
  add,
  cast,
  constant,
  type DType,
  type FloatDType,
  type KernelSet,
  type LoraLayout,
  multiply,
  reshape,
  rowSections,
  scope,
  slice,
  square,
  subtract,
  sum,
  type Tensor,
  tensorOf,
  toFloat32Array,
  toNumber,
} from '@lorasmith/tensor';
import type { FloatDtype } from '@lorasmith/weight-files';
import { spreadNumbers } from './probe-texts.js';
import { checkFailed, layerBound, type MergeRounding, weightRounding } from './rounding-bounds.js';

/** A layer, or all experts of one. */
export interface MergedLayer {
  module: PeftModule;
  /**
   * The dtype of the weight in the base's files, and so in the merged model's; a quantized one is bfloat16 in that. Of experts in
   * several dtypes it is the coarsest.
   */
  storedDtype: DType;
}

/** A layer or one expert, with its position in its group. */
interface LayerOfGroup extends MergedLayer {
  /** Its name in messages. */
  name: string;
  firstRow: number;
}

/** The update of each layer, and the dtype of its weight in the base's files. */
export function mergedLayers({ modules }: PeftAdapter, model: ModelFolder): Map<string, MergedLayer> {
  return new Map([...modules].map(([name, module]) => [name, { module, storedDtype: storedDtypeOf(name, model) }]));
}

function storedDtypeOf(name: string, { linears, expertParameters, tensors, quantized }: ModelFolder): DType {
  const parameter = expertParameters.get(name);
  if (parameter?.tensors[0]?.packed !== undefined) return 'bfloat16';
  const weights = parameter?.tensors.map((tensor) => tensor.name) ?? [linears.get(name)!.weight];
  const dtypes = weights.map((weight): DType => {
    if (quantized.has(weight)) return 'bfloat16';
    // Reading the folder has checked that every other weight has a float dtype.
    return DTYPE_NAMES[tensors.get(weight)!.entry.dtype as FloatDtype];
  });
  return dtypes.reduce((one, other) => (weightRounding([other]) > weightRounding([one]) ? other : one));
}

/**
 * The model as it is in the merged download: `W + scale · B A`, computed in float32 and rounded once to the dtype of the
 * base's files. (In the download a quantized weight is rounded to bfloat16 before, too, as a job in bfloat16 computes with it;
 * one in float32 computes with the exact one.) A merged weight is made for a forward pass and freed after it: the base's is not touched, and no second
 * model is in memory. Before it is rounded, it is compared with what the adapted layers computed in a pass.
 */
export class MergedModel implements ModelAdapter {
  /** The rounding of all forward passes. */
  readonly rounding: MergeRounding = { errorSquares: 0, updateSquares: 0, baseSquares: 0 };
  readonly #adapted: RecordedAdapter;
  readonly #layers: ReadonlyMap<string, MergedLayer>;
  readonly #compared = new Set<LinearGroup>();

  /**
   * @param adapted - What the merged layers are compared with. A pass has used it.
   * @param layers - By name.
   */
  constructor(adapted: RecordedAdapter, layers: ReadonlyMap<string, MergedLayer>) {
    this.#adapted = adapted;
    this.#layers = layers;
  }

  at(group: LinearGroup): GroupAdapter | null {
    return this.#mergedAt(group);
  }

  /**
   * Compares the layers that no pass with the merged model has reached: those of experts that no token has chosen.
   * @param groups - Of the base.
   */
  compareOthers(groups: readonly LinearGroup[]): void {
    for (const group of groups) if (!this.#compared.has(group)) this.#mergedAt(group)?.compare();
  }

  #mergedAt(group: LinearGroup): MergedGroup | null {
    if (!group.modules.some(({ name }) => this.#layers.has(name))) return null;
    const adapted = () => {
      this.#compared.add(group);
      return this.#adapted.recordOf(group);
    };
    return new MergedGroup(group, adapted, this.#layers, this.rounding);
  }
}

/** `x Wᵀ + b`, as linear layers have it. */
function productOf(kernels: KernelSet, x: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  return new DenseLinear(kernels, weight, bias).forward(x);
}

/** `x Wᵀ`, as experts have it: on a GPU its sums have another order than those of linear layers. */
function expertProduct(kernels: KernelSet, x: Tensor, weight: Tensor): Tensor {
  const sections = rowSections(Int32Array.of(0, x.shape[0]!));
  return kernels.of(x.dtype).groupedProduct(x, reshape(weight, [1, ...weight.shape]), sections, true);
}

class MergedGroup implements GroupAdapter {
  readonly trained = false;
  readonly #group: LinearGroup;
  readonly #adapted: () => RecordedGroup;
  /** The adapted ones of the group, in the order of their rows. */
  readonly #layers: readonly LayerOfGroup[];
  readonly #rounding: MergeRounding;

  /** @param rounding - Added to in every forward pass, and comparison. */
  constructor(
    group: LinearGroup,
    adapted: () => RecordedGroup,
    layers: ReadonlyMap<string, MergedLayer>,
    rounding: MergeRounding,
  ) {
    this.#group = group;
    this.#adapted = adapted;
    this.#layers = layersOfGroup(group, layers);
    this.#rounding = rounding;
  }

  /** @throws ProductError merge_not_finite, adapter_check_failed; both name the layer */
  forward(x: Tensor): { output: Tensor; saved: null } {
    const { linear } = this.#group;
    const { kernels } = linear;
    const output = scope(() => {
      const weight = this.#comparedWeight();
      const dtype = weight.dtype as FloatDType;
      const bias = linear.biasRows(0, linear.outFeatures);
      const own = cast(x, dtype);
      const output = this.#isExpert
        ? expertProduct(kernels, own, weight)
        : productOf(kernels, own, weight, bias && cast(bias, dtype));
      return cast(output, linear.computeDtype);
    });
    x.dispose();
    return { output, saved: null };
  }

  get #isExpert(): boolean {
    return this.#group.modules[0]!.expert !== undefined;
  }

  /** Compares it with the adapted layers, without a pass. @throws ProductError as {@link forward} */
  compare(): void {
    scope(() => void this.#comparedWeight());
  }

  /** The merged weight `[out, in]` of the group, once it is compared with the adapted layers. */
  #comparedWeight(): Tensor {
    const { linear } = this.#group;
    const own = linear.computeDtype;
    const stored = this.#layers.map(({ storedDtype }) => storedDtype);
    // Weights that the model's dtype cannot hold are used in float32, or the model's rounding would be blamed on merging.
    const dtype = stored.every((other) => other === own) ? own : 'float32';
    const { tokens: count, input, output: adaptedOutput } = this.#adapted();
    const tokens = tensorOf(input, [count, linear.inFeatures]);
    const adapted = tensorOf(adaptedOutput, [count, linear.outFeatures]);
    const { parameters, layout } = this.#parameters();
    const base = linear.weightRows(0, linear.outFeatures);
    const merged = linear.kernels.of(own).mergedWeight(base, parameters, tokens, { layout, stored, dtype });
    this.#takeNorms(toFloat32Array(merged.norms));
    for (const layer of this.#layers) this.#compare(layer, tokens, merged.output, adapted);
    return merged.weight;
  }

  backward(): never {
    throw new Error('a merged model is not trained through');
  }

  /** The numbers of the layers as a kernel takes them: all A, then all B. */
  #parameters(): { parameters: Tensor; layout: LoraLayout } {
    const { inFeatures, outFeatures } = this.#group.linear;
    const modules = this.#layers.map(({ module }) => module);
    const numbers = joined([...modules.map(({ a }) => a), ...modules.map(({ b }) => b)]);
    const adapted = this.#layers.map(({ module: { rank, scale, outFeatures: rows }, firstRow }) => {
      return { rank, scale, outFeatures: rows, firstRow };
    });
    return { parameters: tensorOf(numbers, [numbers.length]), layout: { offset: 0, inFeatures, outFeatures, adapted } };
  }

  /** @param norms - `[layers, 3]`: of the rounding errors, the updates, and the frozen weights */
  #takeNorms(norms: Float32Array): void {
    for (const [i, { name, storedDtype }] of this.#layers.entries()) {
      const [error, update, base] = norms.subarray(3 * i, 3 * i + 3) as unknown as [number, number, number];
      if (!Number.isFinite(error)) {
        const message = `Merging ${name} gives numbers that are not finite in ${storedDtype}, the dtype of the base. Train with a lower learning_rate or alpha.`;
        throw new ProductError('merge_not_finite', message);
      }
      this.#rounding.errorSquares += error ** 2;
      this.#rounding.updateSquares += update ** 2;
      this.#rounding.baseSquares += base ** 2;
    }
  }

  /**
   * Merged and adapted layer are the same function, up to the rounding of the dtype that the model computes in.
   *
   * @param tokens - `[tokens, in]` float32
   * @param output - `[tokens, out]` float32, of the merged group before its weight is rounded and without its bias
   * @param adapted - `[tokens, out]` float32
   */
  #compare({ name, module, firstRow }: LayerOfGroup, tokens: Tensor, output: Tensor, adapted: Tensor): void {
    const { linear } = this.#group;
    const { a, b, rank, scale, inFeatures, outFeatures } = module;
    const { difference, size } = scope(() => {
      const rowsOf = (x: Tensor) => slice(x, [0, firstRow], [-1, outFeatures]);
      const bias = linear.biasRows(firstRow, outFeatures);
      const merged = add(rowsOf(output), bias === null ? constant(0) : cast(bias, 'float32'));
      const low = linear.kernels.matMul(tokens, tensorOf(a, [rank, inFeatures]), { transposeB: true }); // [tokens, rank]
      const update = linear.kernels.matMul(low, tensorOf(b, [outFeatures, rank]), { transposeB: true }); // [tokens, out], not scaled
      // Base and update may cancel each other; each is rounded by its own size.
      return {
        difference: norm(subtract(rowsOf(adapted), merged)),
        size: norm(merged) + 2 * Math.abs(scale) * norm(update),
      };
    });
    const bound = layerBound(linear.computeDtype, linear.inFeatures, size);
    // Not `>`: NaN must fail.
    if (difference <= bound) return;
    const differ = `by ${difference.toPrecision(3)} on the probe; at most ${bound.toPrecision(3)} comes from rounding`;
    throw checkFailed(`Merged into its base, ${name} differs from the layer with the adapter ${differ}.`);
  }
}

function layersOfGroup({ modules }: LinearGroup, layers: ReadonlyMap<string, MergedLayer>): LayerOfGroup[] {
  let next = 0;
  return modules.flatMap(({ name, outFeatures, expert }) => {
    const firstRow = next;
    next += outFeatures;
    const layer = layers.get(name);
    if (layer === undefined) return [];
    if (expert === undefined) return [{ ...layer, name, firstRow }];
    const module = ofExpert(layer.module, expert.index);
    return [{ ...layer, module, name: `expert ${expert.index} of ${name}`, firstRow }];
  });
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((total, { length }) => total + length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** The Frobenius norm. The numbers are scaled up first, so that the squares of tiny ones do not underflow. */
function norm(x: Tensor): number {
  const squares = scope(() => toNumber(sum(square(multiply(x, constant(2 ** 20))), 'all')));
  return Math.sqrt(squares) * 2 ** -20;
}

/** Tokens that are recorded of a pass. */
const RECORDED_TOKENS = 8;

/** The first tokens of a pass at a group of linear layers. */
export interface RecordedGroup {
  tokens: number;
  /** `[tokens, in]` */
  input: Float32Array;
  /** `[tokens, out]` of the frozen layers with the adapter */
  output: Float32Array;
}

/** Computes as another adapter does, and records a few tokens of each group in its last pass. */
export class RecordedAdapter implements ModelAdapter {
  readonly #adapter: ModelAdapter;
  readonly #groups = new Map<LinearGroup, RecordedGroup>();

  constructor(adapter: ModelAdapter) {
    this.#adapter = adapter;
  }

  at(group: LinearGroup): GroupAdapter | null {
    const inner = this.#adapter.at(group);
    if (inner === null) return null;
    return {
      trained: false,
      forward: (x, base, { dropoutSeed }) => {
        const tokens = Math.min(RECORDED_TOKENS, x.shape[0]!);
        const input = firstTokens(x, tokens);
        const { output } = inner.forward(x, base, { record: false, dropoutSeed });
        this.#groups.set(group, { tokens, input, output: firstTokens(output, tokens) });
        return { output, saved: null };
      },
      backward: () => {
        throw new Error('a recorded pass is not trained through');
      },
    };
  }

  /**
   * The tokens that were recorded of a group. An expert that no token of the passes has chosen is computed with numbers of mean 0 and variance 1.
   * @throws Error where no pass with this adapter has reached the group, which has no expert
   */
  recordOf(group: LinearGroup): RecordedGroup {
    const record = this.#groups.get(group);
    if (record !== undefined) return record;
    const [module] = group.modules;
    const adapter = this.at(group);
    if (module?.expert === undefined || adapter === null) {
      throw new Error(`no pass has reached ${module?.name} with the adapter`);
    }
    const { linear } = group;
    const { inFeatures, computeDtype } = linear;
    const numbers = spreadNumbers(RECORDED_TOKENS * inFeatures);
    const x = scope(() => cast(tensorOf(numbers, [RECORDED_TOKENS, inFeatures]), computeDtype));
    const options = { record: false, dropoutSeed: null };
    adapter.forward(x, () => linear.forward(x), options).output.dispose();
    return this.#groups.get(group)!;
  }
}

function firstTokens(x: Tensor, count: number): Float32Array {
  return scope(() => toFloat32Array(slice(x, [0, 0], [count, -1])));
}
