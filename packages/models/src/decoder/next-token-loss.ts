import {
  cast,
  constant,
  dispose,
  keep,
  kernelsFor,
  matMul,
  multiply,
  scope,
  slice,
  square,
  subtract,
  sum,
  type Tensor,
  tanh,
  toNumber,
} from '@lorasmith/tensor';

/** Numbers in one chunk of logits; what lies beyond is computed in further chunks, so memory does not grow with tokens × vocabulary. */
const MOST_LOGITS = 16 * 1024 * 1024;

export interface NextTokenLossOptions {
  /** Whether the gradient is wanted. */
  record: boolean;
  /** See {@link capLogits}. @defaultValue null */
  softcap?: number | null;
  /** Numbers in one chunk of logits; at least one place is computed at a time. @defaultValue 2^24 */
  mostLogits?: number | undefined;
}

/**
 * Bounds logits: `softcap · tanh(logit / softcap)`, in float32; null leaves them as they are.
 * @param logits `[n, vocab]`
 */
export function capLogits(logits: Tensor, softcap: number | null): Tensor {
  if (softcap === null) return logits;
  return scope(() => multiply(tanh(multiply(cast(logits, 'float32'), constant(1 / softcap))), constant(softcap)));
}

/** Gradient of {@link capLogits}, by what it gave. */
function cappedGradient(gradient: Tensor, capped: Tensor, softcap: number): Tensor {
  return scope(() => multiply(gradient, subtract(constant(1), square(multiply(capped, constant(1 / softcap))))));
}

/**
 * Cross entropy of the next token at the labelled places only, summed, and its gradient by the hidden states.
 * @param hidden `[n, hidden]` normed hidden states of the labelled places, in the model's dtype
 * @param labels `[n]` int32
 * @param head `[vocab, hidden]` output head
 * @returns the sum over the n places, and with `record` the gradient of that sum `[n, hidden]`, one chunk after the other
 */
export function nextTokenLoss(
  hidden: Tensor,
  labels: Tensor,
  head: Tensor,
  { record, softcap = null, mostLogits = MOST_LOGITS }: NextTokenLossOptions,
): { lossSum: number; gradientChunks: Tensor[] } {
  const count = hidden.shape[0]!;
  const chunk = Math.max(1, Math.floor(mostLogits / head.shape[0]!));
  const gradientChunks: Tensor[] = [];
  let lossSum = 0;
  for (let first = 0; first < count; first += chunk) {
    const size = Math.min(chunk, count - first);
    scope(() => {
      const rows = size === count ? hidden : slice(hidden, [first, 0], [size, -1]);
      const chunkLabels = size === count ? labels : slice(labels, [first], [size]);
      const { loss, gradient } = chunkLoss(matMul(rows, head, { transposeB: true }), chunkLabels, softcap);
      lossSum += toNumber(sum(loss, 'all'));
      if (record) gradientChunks.push(keep(matMul(gradient, head))); // [size, vocab] x [vocab, hidden]
    });
  }
  return { lossSum, gradientChunks };
}

/**
 * @param logits `[size, vocab]`; freed
 * @returns loss `[size]`, and gradient by the logits in their dtype
 */
function chunkLoss(logits: Tensor, labels: Tensor, softcap: number | null): { loss: Tensor; gradient: Tensor } {
  return scope(() => {
    if (softcap === null) {
      const result = kernelsFor(logits.dtype).crossEntropy(logits, labels);
      dispose(logits);
      return result;
    }
    const capped = capLogits(logits, softcap);
    dispose(logits);
    const { loss, gradient } = kernelsFor(capped.dtype).crossEntropy(capped, labels);
    return { loss, gradient: cast(cappedGradient(gradient, capped, softcap), logits.dtype) };
  });
}
