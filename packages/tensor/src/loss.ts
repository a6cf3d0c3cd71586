import { elementType, executeMany, typeAttribute } from './execute.js';
import { fusedCrossEntropy, fusedOpsEnabled } from './fused-ops.js';
import { scope, type Tensor } from './tensor.js';
import { cast } from './transfer.js';

/**
 * Cross entropy of the right class and its gradient, computed in float32.
 * @param logits `[n, classes]`
 * @param labels `[n]` int32
 * @returns loss `[n]` float32; gradient `[n, classes]` of the sum of the losses by the logits, in their dtype
 */
export function softmaxCrossEntropy(logits: Tensor, labels: Tensor): { loss: Tensor; gradient: Tensor } {
  if (fusedOpsEnabled()) {
    const [loss, gradient] = fusedCrossEntropy(logits, labels);
    return { loss, gradient };
  }
  return scope(() => {
    const exact = cast(logits, 'float32');
    const attributes = [elementType(exact), typeAttribute('Tlabels', 'int32')];
    const [loss, gradient] = executeMany('SparseSoftmaxCrossEntropyWithLogits', attributes, [exact, labels], 2);
    return { loss: loss!, gradient: cast(gradient!, logits.dtype) };
  });
}
