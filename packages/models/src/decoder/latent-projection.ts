import { alias, dispose, type Tensor } from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import type { ActingAdapter } from '../pass.js';
import { branchGradient, normBranch, type SavedBranch } from './branch-norm.js';
import type { Norm } from './norm.js';

export type SavedLatentProjection = {
  latent: SavedBranch;
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
    const { output: normed, saved: kept } = normBranch(this.#norm, latent, record);
    const { output, saved } = linearForward(this.group, normed, adapters, record ? 'without-input' : 'none');
    return { output, saved: kept === null || saved === null ? null : { latent: kept, linear: saved } };
  }

  /**
   * Takes `gradient` over and frees what was saved.
   * @returns `[tokens, rank]` by the latent; null when it is not wanted
   */
  backward(
    gradient: Tensor,
    { latent, linear }: SavedLatentProjection,
    adapters: readonly ActingAdapter[],
    wantInputGradient: boolean,
  ): Tensor | null {
    const normedAgain = () => normBranch(this.#norm, alias(latent.input), false).output;
    const byNormed = linearBackward(this.group, gradient, linear, adapters, wantInputGradient, normedAgain);
    if (byNormed !== null) return branchGradient(this.#norm, byNormed, latent);
    dispose(latent);
    return null;
  }

  /** Frees the weights. */
  dispose(): void {
    this.#norm.dispose();
    this.group.linear.dispose();
  }
}
