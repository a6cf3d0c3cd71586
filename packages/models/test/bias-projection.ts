import { add, cast, dispose, keep, scope, sum, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { FrozenProjection, Projection, Saved } from '../src/projection.js';

/**
 * The least that can be trained: a bias on a frozen projection. Its gradient is the sum of the gradients of the outputs,
 * so a model's backward pass is seen whole at any of its places.
 */
export class BiasProjection implements Projection {
  readonly trained = true;
  readonly #frozen: FrozenProjection;
  #bias: Tensor;
  #gradient: Float32Array;

  constructor(frozen: FrozenProjection) {
    this.#frozen = frozen;
    const width = frozen.weight.shape[0]!;
    this.#bias = keep(tensorOf(new Float32Array(width), [width]));
    this.#gradient = new Float32Array(width);
  }

  setBias(bias: Float32Array<ArrayBuffer>): void {
    dispose(this.#bias);
    this.#bias = keep(tensorOf(Float32Array.from(bias), [bias.length]));
  }

  /** Of all backward passes since the last call, summed. */
  takeGradient(): Float32Array {
    const taken = this.#gradient;
    this.#gradient = new Float32Array(taken.length);
    return taken;
  }

  forward(x: Tensor): { output: Tensor; saved: Saved } {
    const output = scope(() => add(this.#frozen.forward(x).output, cast(this.#bias, x.dtype)));
    return { output, saved: null };
  }

  backward(gradient: Tensor, _saved: Saved, wantInputGradient: boolean): Tensor | null {
    const own = scope(() => toFloat32Array(sum(cast(gradient, 'float32'), 0)));
    this.#gradient = this.#gradient.map((value, i) => value + own[i]!);
    return this.#frozen.backward(gradient, null, wantInputGradient);
  }

  dispose(): void {
    dispose(this.#bias);
  }
}
