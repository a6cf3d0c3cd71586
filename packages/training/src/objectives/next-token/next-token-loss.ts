import { type ActingAdapter, adaptersWithin, type OutputHead } from '@lorasmith/models';
import { cast, multiply, scope, slice, type Tensor, tensorOf } from '@lorasmith/tensor';

/** The results of {@link nextTokenLoss} for one chunk of labels. */
export interface LossChunk {
  /** `[size]` float32 of each label */
  loss: Tensor;
  /** `[size]` float32: 1 where the label is what the model ranks first, else 0 */
  correct: Tensor;
  /** `[size, hidden]` of the summed loss by the hidden states; null where it is not wanted */
  gradient: Tensor | null;
}

export interface LossOptions {
  /** The adapters on the hidden states; those on the output head take up their gradients. */
  adapters: readonly ActingAdapter[];
  /** True if gradients are wanted. */
  record: boolean;
  /** True if the gradient by the hidden states is wanted, too. */
  wantHidden: boolean;
  /** `[n]` a factor for the gradient of each label. @defaultValue 1 */
  weights?: Float32Array | undefined;
}

/**
 * Cross entropy of the next token of the labelled tokens only, and the gradient of its sum by the hidden states. Logits are
 * made and freed in chunks of the head's size. Nothing is read back from the device.
 * @param hidden `[n, hidden]` normed hidden states that predict the labels, in the model's dtype
 * @param labels `[n]` int32
 */
export function nextTokenLoss(
  hidden: Tensor,
  labels: Tensor,
  head: OutputHead,
  { adapters, record, wantHidden, weights }: LossOptions,
): LossChunk[] {
  const count = hidden.shape[0]!;
  return chunksOf(count, head, adapters).map(({ first, count: size, part }) =>
    scope(() => {
      const rows = size === count ? hidden : slice(hidden, [first, 0], [size, -1]);
      const chunkLabels = size === count ? labels : slice(labels, [first], [size]);
      const acting = adaptersWithin(adapters, { first, count: size }).map((one) => withSeedOf(one, part));
      const computed = head.forward(rows, acting, record); // [size, vocab]
      const { logits } = computed;
      const { loss, gradient, correct } = head.group.linear.kernels.of(logits.dtype).crossEntropy(logits, chunkLabels);
      if (!record) return { loss, correct, gradient: null };
      const ofLogits = weights === undefined ? gradient : weightedRows(gradient, weights.slice(first, first + size));
      return { loss, correct, gradient: head.backward(ofLogits, computed, acting, wantHidden) };
    }),
  );
}

/** Each row of a gradient `[n, columns]` times its weight, in the gradient's dtype. */
export function weightedRows(gradient: Tensor, weights: Float32Array): Tensor {
  return scope(() => cast(multiply(cast(gradient, 'float32'), tensorOf(weights, [weights.length, 1])), gradient.dtype));
}

/** Some rows whose logits are computed at once. */
interface RowChunk {
  first: number;
  count: number;
  /** The number of the chunk among those of its adapter. */
  part: number;
}

/**
 * Chunks of the head's size. Those of an adapter on the head begin with its rows, so that the order of its sums does not depend on
 * other rows.
 */
function chunksOf(count: number, head: OutputHead, adapters: readonly ActingAdapter[]): RowChunk[] {
  const onHead = adapters.filter(({ adapter }) => adapter.at(head.group) !== null);
  const bounds = onHead.flatMap(({ tokens }) => (tokens ? [tokens.first, tokens.first + tokens.count] : []));
  const begins = [...new Set([0, ...bounds, count])].sort((one, other) => one - other);
  return begins.slice(0, -1).flatMap((begin, index) => {
    const end = begins[index + 1]!;
    return Array.from({ length: Math.ceil((end - begin) / head.chunkSize) }, (_, part) => {
      const first = begin + part * head.chunkSize;
      return { first, count: Math.min(head.chunkSize, end - first), part };
    });
  });
}

/** An adapter whose dropout is another one in each chunk. */
function withSeedOf(acting: ActingAdapter, part: number): ActingAdapter {
  if (acting.dropoutSeed === undefined) return acting;
  const [seed, pass] = acting.dropoutSeed;
  return { ...acting, dropoutSeed: [seed ^ Math.imul(part, 0x85ebca6b), pass] };
}
