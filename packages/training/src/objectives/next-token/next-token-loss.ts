import type { OutputHead } from '@lorasmith/models';
import { kernelsFor, scope, slice, type Tensor } from '@lorasmith/tensor';

/** What {@link nextTokenLoss} computes of one chunk of labels. */
export interface LossChunk {
  /** `[size]` float32 of each label */
  loss: Tensor;
  /** `[size]` float32: 1 where the label is what the model ranks first, else 0 */
  correct: Tensor;
  /** `[size, hidden]` of the summed loss by the hidden states; null where it is not wanted */
  gradient: Tensor | null;
}

/**
 * Cross entropy of the next token of the labelled tokens only, and the gradient of its sum by the hidden states. Logits are
 * made and freed in chunks of the head's size. Nothing is read back from the device.
 * @param hidden `[n, hidden]` normed hidden states that predict the labels, in the model's dtype
 * @param labels `[n]` int32
 * @param record whether the gradient is wanted
 */
export function nextTokenLoss(hidden: Tensor, labels: Tensor, head: OutputHead, record: boolean): LossChunk[] {
  const count = hidden.shape[0]!;
  const chunks: LossChunk[] = [];
  for (let first = 0; first < count; first += head.chunkSize) {
    const size = Math.min(head.chunkSize, count - first);
    const chunk = scope(() => {
      const rows = size === count ? hidden : slice(hidden, [first, 0], [size, -1]);
      const chunkLabels = size === count ? labels : slice(labels, [first], [size]);
      const logits = head.logits(rows); // [size, vocab]
      const { loss, gradient, correct } = kernelsFor(logits.dtype).crossEntropy(logits, chunkLabels);
      return { loss, correct, gradient: record ? head.backward(gradient, logits) : null };
    });
    chunks.push(chunk);
  }
  return chunks;
}
