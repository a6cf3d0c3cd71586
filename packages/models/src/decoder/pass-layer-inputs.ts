import { dispose, type Tensor } from '@lorasmith/tensor';
import type { SavedLinear } from '../adapted-linear.js';

/** The tensors that the projection to layer inputs keeps for its backward pass. */
export type SavedProjection = {
  projection: SavedLinear;
  /** `[tokens × layers, size]` float32, before the norm */
  scaled: Tensor;
  inverseRms: Tensor;
};

/** The layer inputs of a pass, and the gradients by them. */
export class PassLayerInputs {
  /** null where nothing is learned of them: then no gradients are kept. */
  readonly saved: SavedProjection | null;
  readonly #inputs: readonly Tensor[];
  #gradients: (Tensor | null)[];

  /** @param inputs of each layer, `[tokens that the layer gives, size]` */
  constructor(inputs: readonly Tensor[], saved: SavedProjection | null) {
    this.#inputs = inputs;
    this.#gradients = inputs.map(() => null);
    this.saved = saved;
  }

  /** The input of a layer, of the tokens that it gives. It stays here. */
  of(layer: number): Tensor {
    return this.#inputs[layer]!;
  }

  /** @param gradient by the input of the layer; taken over */
  setGradient(layer: number, gradient: Tensor): void {
    this.#gradients[layer] = gradient;
  }

  /** The gradients by the inputs of all layers, which are the caller's from then on. */
  takeGradients(): Tensor[] {
    const gradients = this.#gradients as Tensor[];
    this.#gradients = gradients.map(() => null);
    return gradients;
  }

  /** Frees the tensors that are here. */
  dispose(): void {
    dispose([this.#inputs, this.#gradients, this.saved]);
  }
}
