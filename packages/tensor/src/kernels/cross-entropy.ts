import { argMax, minimum, square, subtract } from '../arithmetic.js';
import { elementType, executeMany, typeAttribute } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';

export interface CrossEntropy {
  /** `[n]` float32 */
  loss: Tensor;
  /** `[n, classes]` of the sum of the losses by the logits, in their dtype */
  gradient: Tensor;
  /** `[n]` float32: 1 where the label has the greatest logit, and is the first of those that have it; else 0 */
  correct: Tensor;
}

export function fusedCrossEntropy(logits: Tensor, labels: Tensor): CrossEntropy {
  const [loss, gradient, correct] = executeMany('LorasmithCrossEntropy', [elementType(logits)], [logits, labels], 3);
  return { loss: loss!, gradient: gradient!, correct: correct! };
}

export function rawCrossEntropy(logits: Tensor, labels: Tensor): CrossEntropy {
  return scope(() => {
    const exact = cast(logits, 'float32');
    const attributes = [elementType(exact), typeAttribute('Tlabels', 'int32')];
    const [loss, gradient] = executeMany('SparseSoftmaxCrossEntropyWithLogits', attributes, [exact, labels], 2);
    const distance = square(subtract(cast(argMax(logits), 'float32'), cast(labels, 'float32')));
    const correct = subtract(constant(1), minimum(distance, constant(1)));
    return { loss: loss!, gradient: cast(gradient!, logits.dtype), correct };
  });
}
