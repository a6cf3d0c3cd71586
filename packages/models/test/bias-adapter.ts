import { add, cast, dispose, keep, scope, sum, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { LinearGroup } from '../src/frozen-linear.js';
import type { GroupAdapter, ModelAdapter } from '../src/pass.js';

/** An adapter of what acts at each group. */
export function adapterOf(parts: readonly (readonly [LinearGroup, GroupAdapter])[]): ModelAdapter {
  const byGroup = new Map(parts);
  return { at: (group) => byGroup.get(group) ?? null };
}

/**
 * The least that can be trained: a bias on a group of frozen layers. Its gradient is the sum of the gradients of the
 * outputs, so a model's backward pass is seen whole at any of its groups.
 */
export class BiasAdapter implements GroupAdapter {
  readonly trained = true;
  #bias: Tensor;
  #gradient: Float32Array;

  constructor({ linear }: LinearGroup) {
    this.#bias = keep(tensorOf(new Float32Array(linear.outFeatures), [linear.outFeatures]));
    this.#gradient = new Float32Array(linear.outFeatures);
  }

  setBias(bias: Float32Array<ArrayBuffer>): void {
    dispose(this.#bias);
    this.#bias = keep(tensorOf(Float32Array.from(bias), [bias.length]));
  }

  /** The sum of the gradients of all backward passes since the last call. */
  takeGradient(): Float32Array {
    const taken = this.#gradient;
    this.#gradient = new Float32Array(taken.length);
    return taken;
  }

  forward(x: Tensor, base: () => Tensor): { output: Tensor; saved: null } {
    const output = scope(() => add(base(), cast(this.#bias, x.dtype)));
    dispose(x);
    return { output, saved: null };
  }

  backward(gradient: Tensor, base: () => Tensor, _saved: null, wantInputGradient: boolean): Tensor | null {
    const own = scope(() => toFloat32Array(sum(cast(gradient, 'float32'), 0)));
    this.#gradient = this.#gradient.map((value, i) => value + own[i]!);
    return wantInputGradient ? base() : null;
  }

  dispose(): void {
    dispose(this.#bias);
  }
}
