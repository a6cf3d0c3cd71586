import { type DecoderArchitecture, mixerOf, mixersOf } from '@lorasmith/model-folder';
import {
  add,
  alias,
  cast,
  concat,
  dispose,
  type FloatDType,
  scope,
  slice,
  split,
  type Tensor,
} from '@lorasmith/tensor';
import type { HeadShape } from './query-key-step.js';

/**
 * The keys and values of a pass that later layers read, too, and the gradients by them, which are added
 * in float32.
 */
export class SharedKeysAndValues {
  readonly #tensors = new Map<number, Tensor>();
  readonly #gradients = new Map<number, Tensor>();

  /**
   * Keeps what a layer has made. Made again in a backward pass, it is the same.
   * @param layer which made it
   * @param make gives `[tokens, 2 × keyValueHeads × headDim]`: keys before they are rotated, and values
   */
  give(layer: number, make: () => Tensor): void {
    if (!this.#tensors.has(layer)) this.#tensors.set(layer, make());
  }

  /** The tensor that {@link give} has kept. It stays here. */
  of(layer: number): Tensor {
    const tensor = this.#tensors.get(layer);
    if (tensor === undefined) throw new Error(`layer ${layer} has made no keys and values`);
    return tensor;
  }

  /**
   * Adds the gradient of a reader.
   * @param gradient `[tokens, 2 × keyValueHeads × headDim]`; taken over
   */
  addGradient(layer: number, gradient: Tensor): void {
    const before = this.#gradients.get(layer);
    const sum = scope(() => {
      const exact = cast(gradient, 'float32');
      return before === undefined ? alias(exact) : add(before, exact);
    });
    dispose([before, gradient]);
    this.#gradients.set(layer, sum);
  }

  /**
   * The gradient by the keys and values of a layer: its own, and those of all readers, which come before it in a backward pass.
   * @param own `[tokens, 2 × keyValueHeads × headDim]`
   */
  gradientOf(layer: number, own: Tensor): Tensor {
    const ofReaders = this.#gradients.get(layer);
    if (ofReaders === undefined) return alias(own);
    this.#gradients.delete(layer);
    const sum = scope(() => cast(add(cast(own, 'float32'), ofReaders), own.dtype as FloatDType));
    dispose(ofReaders);
    return sum;
  }

  /** Frees all tensors. */
  dispose(): void {
    dispose([...this.#tensors.values(), ...this.#gradients.values()]);
    this.#tensors.clear();
    this.#gradients.clear();
  }
}

/** The source of the keys and values of a layer that its projections do not give. */
export class KeyValueSource {
  readonly #layer: number;
  /** The layer whose keys and values it reads. */
  readonly owner: number;
  readonly #isRead: boolean;
  readonly #keysAreValues: boolean;
  readonly #queries: number;
  readonly #keys: number;

  constructor(
    architecture: Pick<DecoderArchitecture, 'layers'>,
    layer: number,
    { heads, keyValueHeads, headDim }: HeadShape,
  ) {
    const { keysAreValues = false, keysAndValuesOf = layer } = mixerOf(architecture, layer, 'attention');
    this.#layer = layer;
    this.owner = keysAndValuesOf;
    this.#isRead = mixersOf(architecture, 'attention').some((other) => other.keysAndValuesOf === layer);
    this.#keysAreValues = keysAreValues && this.isOwn;
    this.#queries = heads * headDim;
    this.#keys = keyValueHeads * headDim;
  }

  /** True if the layer makes keys and values. */
  get isOwn(): boolean {
    return this.owner === this.#layer;
  }

  /**
   * The keys as values too, where they are. Takes `projected` over.
   * @param projected `[tokens, (heads + keyValueHeads) × headDim]`, or what the layer projects
   */
  withValues(projected: Tensor): Tensor {
    if (!this.#keysAreValues) return projected;
    const whole = scope(() => {
      const keys = slice(projected, [0, this.#queries], [-1, this.#keys]);
      return concat([projected, keys], 1);
    });
    dispose(projected);
    return whole;
  }

  /** Gradient of {@link withValues}. Takes `gradient` over. */
  withoutValues(gradient: Tensor): Tensor {
    if (!this.#keysAreValues) return gradient;
    const result = scope(() => {
      const [byQueries, byKeys, byValues] = split(gradient, [this.#queries, this.#keys, this.#keys], 1);
      return concat([byQueries!, add(byKeys!, byValues!)], 1);
    });
    dispose(gradient);
    return result;
  }

  /**
   * Gives keys and values to the layers that read them, or joins queries with those of another layer. Takes `own` over.
   * @param own `[tokens, heads × headDim]` queries, with keys and values behind them where the layer makes them
   * @returns `[tokens, (heads + 2 × keyValueHeads) × headDim]`
   */
  joined(own: Tensor, shared: SharedKeysAndValues): Tensor {
    if (this.isOwn) {
      if (this.#isRead) shared.give(this.#layer, () => slice(own, [0, this.#queries], [-1, 2 * this.#keys]));
      return own;
    }
    const whole = concat([own, shared.of(this.owner)], 1);
    dispose(own);
    return whole;
  }

  /** Gradient of {@link joined} by `own`. Takes `gradient` over. */
  parted(gradient: Tensor, shared: SharedKeysAndValues): Tensor {
    if (this.isOwn && !this.#isRead) return gradient;
    const [byQueries, byKeysAndValues] = split(gradient, [this.#queries, 2 * this.#keys], 1);
    dispose(gradient);
    if (!this.isOwn) {
      shared.addGradient(this.owner, byKeysAndValues!);
      return byQueries!;
    }
    const ofAll = shared.gradientOf(this.#layer, byKeysAndValues!);
    const result = concat([byQueries!, ofAll], 1);
    dispose([byQueries, byKeysAndValues, ofAll]);
    return result;
  }
}
