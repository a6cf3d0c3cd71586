import {
  type ActingAdapter,
  adaptersWithin,
  type Decoder,
  isTrained,
  type OutputHead,
  type TokenBatch,
} from '@lorasmith/models';
import {
  cast,
  concat,
  dispose,
  multiply,
  scope,
  slice,
  type Tensor,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import {
  type BatchLoss,
  type EvaluationMetrics,
  lossAndAccuracy,
  type OwnMetrics,
  type PassLoss,
  type PassOptions,
} from './objective.js';
import { softCrossEntropy } from './soft-targets.js';

/** The results of {@link nextTokenLoss} for one chunk of hidden states. */
interface LossChunk {
  /** `[size * each]` float32 of each label */
  loss: Tensor;
  /** `[size]` float32: 1 where the label, or the first of several, is what the model ranks first, else 0 */
  correct: Tensor;
  /** `[size, hidden]` of the summed loss by the hidden states; null where it is not wanted */
  gradient: Tensor | null;
}

interface LossOptions {
  /** The adapters on the hidden states; those on the output head take up their gradients. */
  adapters: readonly ActingAdapter[];
  /** True if gradients are wanted. */
  record: boolean;
  /** True if the gradient by the hidden states is wanted, too. */
  wantHidden: boolean;
  /** `[n * each]` a factor for the gradient of each label. @defaultValue 1 */
  weights?: Float32Array | undefined;
}

/**
 * Cross entropy of the next token of the labelled tokens only, and the gradient of its sum by the hidden states. Logits are
 * made and freed in chunks of the head's size. Nothing is read back from the device.
 * @param hidden `[n, hidden]` normed hidden states that predict the labels, in the model's dtype
 * @param labels `[n * each]`: of each hidden state one, or several; those of a pass that records have `weights`
 */
export function nextTokenLoss(
  hidden: Tensor,
  labels: Int32Array,
  head: OutputHead,
  { adapters, record, wantHidden, weights }: LossOptions,
): LossChunk[] {
  const count = hidden.shape[0]!;
  const each = count === 0 ? 1 : labels.length / count;
  const { kernels } = head.group.linear;
  return chunksOf(count, head, adapters).map(({ first, count: size, part }) =>
    scope(() => {
      const rows = size === count ? hidden : slice(hidden, [first, 0], [size, -1]);
      const [from, to] = [first * each, (first + size) * each];
      const chunkLabels = labels.subarray(from, to);
      const chunkWeights = weights?.subarray(from, to);
      const acting = adaptersWithin(adapters, { first, count: size }).map((one) => withSeedOf(one, part));
      const computed = head.forward(rows, acting, record); // [size, vocab]
      const { logits } = computed;
      if (each > 1) {
        const soft = softCrossEntropy(kernels, logits, chunkLabels, record ? chunkWeights! : null);
        const gradient = soft.gradient && head.backward(soft.gradient, computed, acting, wantHidden);
        return { ...soft, gradient };
      }
      const { loss, gradient, correct } = kernels.of(logits.dtype).crossEntropy(logits, tensorOf(chunkLabels, [size]));
      if (!record) return { loss, correct, gradient: null };
      const ofLogits = chunkWeights === undefined ? gradient : weightedRows(gradient, chunkWeights);
      return { loss, correct, gradient: head.backward(ofLogits, computed, acting, wantHidden) };
    }),
  );
}

/** Each row of a gradient `[n, columns]` times its weight, in the gradient's dtype. */
function weightedRows(gradient: Tensor, weights: Float32Array): Tensor {
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

/** The cross entropy of each label of a pass. Both are the caller's to free. */
interface LabelLosses {
  /** `[labels]` float32: the negative log-probability of each label. */
  losses: Tensor;
  /** `[predictors]` float32: 1 for each that ranks its label, or the first of several, first; else 0. */
  correct: Tensor;
}

interface LabelLossOptions extends PassOptions {
  /** True if the adapters take up gradients. */
  record: boolean;
  /**
   * The derivative of the loss by the loss of each label, `[labels]`: known before, or of those losses. The function is called in a pass that
   * records, and waits for it. Where several are labels of a predictor it is known before.
   * @defaultValue 1 for each label: the loss is their sum
   */
  weigh?: Float32Array | ((losses: Float32Array) => Float32Array) | undefined;
}

/** Runs a decoder over a batch, and back where it is recorded. */
export function labelLosses(model: Decoder, batch: TokenBatch, options: LabelLossOptions): LabelLosses {
  const { adapters, recomputedLayers = 0, record, weigh } = options;
  return scope(() => {
    const {
      hidden,
      saved,
      adapters: ofHead,
    } = model.forward(batch, batch.predictors, {
      adapters,
      record,
      recomputedLayers,
    });
    const wantHidden = saved?.layers.some((layer) => layer !== null) ?? false;
    const onHead = ofHead.filter((acting) => isTrained(model.head.group, [acting]));
    const visit = (options: Omit<LossOptions, 'adapters'>) =>
      nextTokenLoss(hidden, batch.labels, model.head, { adapters: ofHead, ...options });
    // An adapter on the head takes up its gradient in the visit, which then needs the weights of its labels.
    const isVisitedTwice = record && typeof weigh === 'function' && onHead.length > 0;
    const given = typeof weigh === 'function' ? null : (weigh ?? null);
    const known = isVisitedTwice ? weigh(lossesOf(visit({ record: false, wantHidden: false }))) : given;
    const areSeveral = batch.labels.length > batch.predictors.length;
    const isWeighedInVisit = (label: number) => areSeveral || owns(onHead, label);
    const chunks = visit({
      record,
      wantHidden,
      weights: known?.map((weight, label) => (isWeighedInVisit(label) ? weight : 1)),
    });
    dispose(hidden);
    const result = {
      losses: joined(chunks.map(({ loss }) => loss)),
      correct: joined(chunks.map(({ correct }) => correct)),
    };
    if (saved === null || !wantHidden) return result;
    const gradients = chunks.map(({ gradient }) => gradient!);
    const gradient = concat(gradients, 0);
    dispose(gradients);
    if (weigh === undefined || areSeveral) {
      model.backward(gradient, saved);
      return result;
    }
    const weights = typeof weigh === 'function' ? (known ?? weigh(toFloat32Array(result.losses))) : weigh;
    const ofLabels = weightedRows(
      gradient,
      weights.map((weight, label) => (isWeighedInVisit(label) ? 1 : weight)),
    );
    dispose(gradient);
    model.backward(ofLabels, saved);
    return result;
  });
}

/** True if one of these adapters acts on a label. */
function owns(adapters: readonly ActingAdapter[], label: number): boolean {
  return adapters.some(({ tokens }) => {
    return tokens === undefined || (label >= tokens.first && label < tokens.first + tokens.count);
  });
}

/** Reads the losses of a visit that is made for them alone. */
function lossesOf(chunks: readonly LossChunk[]): Float32Array {
  const losses = joined(chunks.map(({ loss }) => loss));
  const read = toFloat32Array(losses);
  dispose([losses, chunks.map(({ correct }) => correct)]);
  return read;
}

/** Takes over `[size]` float32 of each chunk. */
function joined(chunks: Tensor[]): Tensor {
  if (chunks.length === 0) return tensorOf(new Float32Array(0), [0]);
  if (chunks.length === 1) return chunks[0]!;
  const all = concat(chunks, 0);
  dispose(chunks);
  return all;
}

/** Losses of answers that depend on the model through the log-probabilities of their tokens alone. */
export interface JudgedLosses<Figure> {
  /** One for each loss, with `correct` (1 or 0) and `figures`. */
  losses: Float32Array;
  correct: Float32Array;
  figures: readonly Figure[];
  /** `[labels]` the derivative of the sum of the losses by each label's cross entropy. */
  weights: Float32Array;
}

/**
 * Runs a decoder over answers, and back where it is recorded.
 * @param judge makes losses of `[labels]` cross entropies
 * @param known the weights that it makes, where they do not depend on the losses. @defaultValue null
 */
export function judgedPass<Figure>(
  model: Decoder,
  batch: TokenBatch,
  options: Omit<LabelLossOptions, 'weigh'>,
  judge: (losses: Float32Array) => JudgedLosses<Figure>,
  known: Float32Array | null = null,
): PassLoss<Figure> {
  let found: JudgedLosses<Figure> | null = null;
  const weigh = (losses: Float32Array) => {
    found = judge(losses);
    return found.weights;
  };
  const labels = labelLosses(model, batch, { ...options, weigh: known ?? weigh });
  const { losses, correct, figures } = found ?? judge(toFloat32Array(labels.losses));
  dispose([labels.losses, labels.correct]);
  const count = losses.length;
  return { losses: tensorOf(losses, [count]), correct: tensorOf(correct, [count]), normaliser: count, figures };
}

/** The metrics of batches whose losses are those of answers. @param of the figures of all of them */
export function judgedMetrics<Figure>(
  losses: readonly BatchLoss<Figure>[],
  of: (figures: readonly Figure[]) => OwnMetrics,
): EvaluationMetrics {
  return { ...lossAndAccuracy(losses), perplexity: null, ...of(losses.flatMap(({ figures = [] }) => figures)) };
}
