import { elementType, executeMany, typeAttribute } from './execute.js';
import type { Tensor } from './tensor.js';

/**
 * Cross entropy of the right class and its gradient, in one op.
 * @param logits `[n, classes]` float32
 * @param labels `[n]` int32
 * @returns loss `[n]`; gradient `[n, classes]` of the sum of the losses by the logits
 */
export function softmaxCrossEntropy(logits: Tensor, labels: Tensor): { loss: Tensor; gradient: Tensor } {
  const [loss, gradient] = executeMany(
    'SparseSoftmaxCrossEntropyWithLogits',
    [elementType(logits), typeAttribute('Tlabels', 'int32')],
    [logits, labels],
    2,
  );
  return { loss: loss!, gradient: gradient! };
}
