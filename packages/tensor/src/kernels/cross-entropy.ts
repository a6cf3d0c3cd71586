import { elementType, executeMany, typeAttribute } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';
import { cast } from '../transfer.js';

export interface CrossEntropy {
  /** `[n]` float32 */
  loss: Tensor;
  /** `[n, classes]` of the sum of the losses by the logits, in their dtype */
  gradient: Tensor;
}

export function fusedCrossEntropy(logits: Tensor, labels: Tensor): CrossEntropy {
  const [loss, gradient] = executeMany('LorasmithCrossEntropy', [elementType(logits)], [logits, labels], 2);
  return { loss: loss!, gradient: gradient! };
}

export function rawCrossEntropy(logits: Tensor, labels: Tensor): CrossEntropy {
  return scope(() => {
    const exact = cast(logits, 'float32');
    const attributes = [elementType(exact), typeAttribute('Tlabels', 'int32')];
    const [loss, gradient] = executeMany('SparseSoftmaxCrossEntropyWithLogits', attributes, [exact, labels], 2);
    return { loss: loss!, gradient: cast(gradient!, logits.dtype) };
  });
}
