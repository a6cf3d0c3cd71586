import { cast, dispose, type FloatDType, scope, type Tensor } from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import type { ActingAdapter } from '../pass.js';
import type { Norm } from './norm.js';

export type SavedLatentProjection = {
  /** `[tokens, rank]` before the norm */
  latent: Tensor;
  inverseRms: Tensor;
  linear: SavedLinear;
};

/** The norm of a latent, and a linear layer that reads what it gives. */
export class LatentProjection {
  readonly #norm: Norm;
  readonly group: LinearGroup;

  constructor(norm: Norm, group: LinearGroup) {
    this.#norm = norm;
    this.group = group;
  }

  /**
   * @param latent `[tokens, rank]`; taken over
   * @returns output `[tokens, out]`; saved is null without `record`
   */
  forward(
    latent: Tensor,
    adapters: readonly ActingAdapter[],
    record: boolean,
  ): { output: Tensor; saved: SavedLatentProjection | null } {
    const { output: normed, inverseRms } = this.#normed(latent);
    const { output, saved } = linearForward(this.group, normed, adapters, record ? 'without-input' : 'none');
    if (saved !== null) return { output, saved: { latent, inverseRms, linear: saved } };
    dispose([latent, inverseRms]);
    return { output, saved: null };
  }

  /**
   * Takes `gradient` over and frees what was saved.
   * @returns `[tokens, rank]` by the latent; null when it is not wanted
   */
  backward(
    gradient: Tensor,
    { latent, inverseRms, linear }: SavedLatentProjection,
    adapters: readonly ActingAdapter[],
    wantInputGradient: boolean,
  ): Tensor | null {
    const normedAgain = () => scope(() => this.#normed(latent).output);
    const byNormed = linearBackward(this.group, gradient, linear, adapters, wantInputGradient, normedAgain);
    const byLatent =
      byNormed && scope(() => this.#norm.gradient(byNormed, cast(latent, 'float32'), inverseRms, null).rounded);
    dispose([byNormed, latent, inverseRms]);
    return byLatent;
  }

  #normed(latent: Tensor) {
    return scope(() => this.#norm.forward(cast(latent, 'float32'), latent.dtype as FloatDType));
  }

  /** Frees the weights. */
  dispose(): void {
    this.#norm.dispose();
    this.group.linear.dispose();
  }
}
