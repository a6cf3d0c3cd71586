import {
  dispose,
  keep,
  matMul,
  scope,
  slice,
  softmaxCrossEntropy,
  sum,
  type Tensor,
  toNumber,
} from '@lorasmith/tensor';

/** Numbers in one chunk of logits; what lies beyond is computed in further chunks, so memory does not grow with tokens × vocabulary. */
const MOST_LOGITS = 32 * 1024 * 1024;

/**
 * Cross entropy of the next token at the labelled places only, summed, and its gradient by the hidden states.
 * @param hidden `[n, hidden]` normed hidden states of the labelled places, in the model's dtype
 * @param labels `[n]` int32
 * @param head `[vocab, hidden]` output head
 * @param mostLogits numbers in one chunk of logits; at least one place is computed at a time
 * @returns the sum over the n places, and with `record` the gradient of that sum `[n, hidden]`, one chunk after the other
 */
export function nextTokenLoss(
  hidden: Tensor,
  labels: Tensor,
  head: Tensor,
  record: boolean,
  mostLogits: number = MOST_LOGITS,
): { lossSum: number; gradientChunks: Tensor[] } {
  const count = hidden.shape[0]!;
  const chunk = Math.max(1, Math.floor(mostLogits / head.shape[0]!));
  const gradientChunks: Tensor[] = [];
  let lossSum = 0;
  for (let first = 0; first < count; first += chunk) {
    const size = Math.min(chunk, count - first);
    scope(() => {
      const rows = size === count ? hidden : slice(hidden, [first, 0], [size, -1]);
      const logits = matMul(rows, head, { transposeB: true }); // [size, vocab]
      const chunkLabels = size === count ? labels : slice(labels, [first], [size]);
      const { loss, gradient } = softmaxCrossEntropy(logits, chunkLabels);
      dispose(logits);
      lossSum += toNumber(sum(loss, 'all'));
      if (record) gradientChunks.push(keep(matMul(gradient, head))); // [size, vocab] x [vocab, hidden]
    });
  }
  return { lossSum, gradientChunks };
}
