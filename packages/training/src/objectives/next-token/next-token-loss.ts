import type { OutputHead } from '@lorasmith/models';
import { kernelsFor, scope, slice, sum, type Tensor, toFloat32Array, toNumber } from '@lorasmith/tensor';

export interface NextTokenLossOptions {
  /** Whether the gradient is wanted. */
  record: boolean;
  /** `[n]`: filled with the loss of each label. */
  tokenLosses?: Float32Array | null;
}

/**
 * Cross entropy of the next token of the labelled tokens only, summed, and its gradient by the hidden states. Logits are
 * made and freed in chunks of the head's size.
 * @param hidden `[n, hidden]` normed hidden states that predict the labels, in the model's dtype
 * @param labels `[n]` int32
 * @returns the sum over the n labels, and with `record` the gradient of that sum `[n, hidden]`, one chunk after the other
 */
export function nextTokenLoss(
  hidden: Tensor,
  labels: Tensor,
  head: OutputHead,
  { record, tokenLosses = null }: NextTokenLossOptions,
): { lossSum: number; gradientChunks: Tensor[] } {
  const count = hidden.shape[0]!;
  const gradientChunks: Tensor[] = [];
  let lossSum = 0;
  for (let first = 0; first < count; first += head.chunkSize) {
    const size = Math.min(head.chunkSize, count - first);
    const byHidden = scope(() => {
      const rows = size === count ? hidden : slice(hidden, [first, 0], [size, -1]);
      const chunkLabels = size === count ? labels : slice(labels, [first], [size]);
      const logits = head.logits(rows); // [size, vocab]
      const { loss, gradient } = kernelsFor(logits.dtype).crossEntropy(logits, chunkLabels);
      lossSum += toNumber(sum(loss, 'all'));
      tokenLosses?.set(toFloat32Array(loss), first);
      return record ? head.backward(gradient, logits) : null;
    });
    if (byHidden !== null) gradientChunks.push(byHidden);
  }
  return { lossSum, gradientChunks };
}
