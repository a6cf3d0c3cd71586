import { add, alias, cast, dispose, type FloatDType, scope, type Tensor } from '@lorasmith/tensor';

/**
 * The keys and values of a pass that later layers read beside the layer that makes them, and the gradients by them, which are added
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
