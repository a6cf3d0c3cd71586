import type { KernelSet } from '@lorasmith/tensor';
import {
  add,
  cast,
  gather,
  multiply,
  reshape,
  scatter,
  scope,
  slice,
  subtract,
  type Tensor,
  tensorOf,
} from '@lorasmith/tensor';

/** The results of {@link softCrossEntropy}. */
interface SoftCrossEntropy {
  /** `[rows * each]` float32 of each target */
  loss: Tensor;
  /** `[rows]` float32: 1 where the first target of the row has the greatest logit, else 0 */
  correct: Tensor;
  /** `[rows, classes]` of the sum of the losses times their weights, by the logits, in their dtype; null without weights */
  gradient: Tensor | null;
}

/**
 * Cross entropy of several targets of each row. By the logits it is `p Σw - w` at the targets, where p is the softmax, which is
 * computed once for all of them.
 * @param logits `[rows, classes]`
 * @param targets `[rows * each]`, of which several may be the same
 * @param weights `[rows * each]`; null: no gradient is wanted
 */
export function softCrossEntropy(
  kernels: KernelSet,
  logits: Tensor,
  targets: Int32Array,
  weights: Float32Array | null,
): SoftCrossEntropy {
  const [rows, classes] = logits.shape as [number, number];
  const each = targets.length / rows;
  return scope(() => {
    const firsts = Int32Array.from({ length: rows }, (_, row) => targets[row * each]!);
    const first = kernels.of(logits.dtype).crossEntropy(logits, tensorOf(firsts, [rows]));
    const places = targets.map((target, index) => Math.floor(index / each) * classes + target);
    const at = tensorOf(places, [places.length]);
    const chosen = reshape(cast(gather(reshape(logits, [rows * classes, 1]), at), 'float32'), [rows, each]);
    const behind = subtract(slice(chosen, [0, 0], [rows, 1]), chosen); // [rows, each]
    const loss = reshape(add(reshape(first.loss, [rows, 1]), behind), [rows * each]);
    if (weights === null) return { loss, correct: first.correct, gradient: null };
    const sums = Float32Array.from({ length: rows }, (_, row) => {
      let sum = 0;
      for (let target = row * each; target < (row + 1) * each; target++) sum += weights[target]!;
      return sum;
    });
    // The gradient of the first target's loss has 1 less than p there.
    const ofTargets = weights.map((weight, index) => (index % each === 0 ? sums[index / each]! : 0) - weight);
    const atTargets = scatter(at, tensorOf(ofTargets, [ofTargets.length, 1]), rows * classes);
    const ofFirst = multiply(cast(first.gradient, 'float32'), tensorOf(sums, [rows, 1]));
    const gradient = cast(add(ofFirst, reshape(atTargets, [rows, classes])), logits.dtype);
    return { loss, correct: first.correct, gradient };
  });
}
