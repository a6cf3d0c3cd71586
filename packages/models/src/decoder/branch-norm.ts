import { cast, dispose, type FloatDType, scope, type Tensor } from '@lorasmith/tensor';
import type { Norm } from './norm.js';

/** The tensors that the norm of a branch keeps for its gradient. */
export type SavedBranch = {
  /** `[tokens, hidden]` in the model's dtype, before the norm */
  input: Tensor;
  inverseRms: Tensor;
};

/**
 * The norm, where there is one, of what a block adds to the residual stream.
 * @param branch `[tokens, hidden]` in the model's dtype; taken over
 */
export function normBranch(
  norm: Norm | null,
  branch: Tensor,
  record: boolean,
): { output: Tensor; saved: SavedBranch | null } {
  if (norm === null) return { output: branch, saved: null };
  const { output, inverseRms } = scope(() => norm.forward(cast(branch, 'float32'), branch.dtype as FloatDType));
  if (record) return { output, saved: { input: branch, inverseRms } };
  dispose([branch, inverseRms]);
  return { output, saved: null };
}

/**
 * Gradient of {@link normBranch} by the branch. Takes `gradient` over and frees what was saved.
 * @param gradient `[tokens, hidden]` in the model's dtype
 */
export function branchGradient(norm: Norm | null, gradient: Tensor, saved: SavedBranch | null): Tensor {
  if (norm === null || saved === null) return gradient;
  const { rounded } = scope(() => {
    const { exact, rounded: inDtype } = norm.gradient(gradient, cast(saved.input, 'float32'), saved.inverseRms, null);
    exact.dispose();
    return { rounded: inDtype };
  });
  dispose([gradient, saved]);
  return rounded;
}
