import { type ActingAdapter, type Decoder, isTrained, type TokenBatch } from '@lorasmith/models';
import { concat, dispose, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { type LossChunk, type LossOptions, nextTokenLoss, weightedRows } from './next-token/next-token-loss.js';
import {
  type BatchLoss,
  type EvaluationMetrics,
  lossAndAccuracy,
  type OwnMetrics,
  type PassLoss,
  type PassOptions,
} from './objective.js';

/** The cross entropy of each label of a pass. Both are the caller's to free. */
export interface LabelLosses {
  /** `[labels]` float32: the negative log-probability of each label. */
  losses: Tensor;
  /** `[labels]` float32: 1 for each label that the model ranks first, else 0. */
  correct: Tensor;
}

export interface LabelLossOptions extends PassOptions {
  /** True if the adapters take up gradients. */
  record: boolean;
  /**
   * The derivative of the loss by the loss of each label, `[labels]`, of those losses; called in a pass that records, and waits for it.
   * @defaultValue 1 for each label: the loss is their sum
   */
  weigh?: ((losses: Float32Array) => Float32Array) | undefined;
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
    const labels = tensorOf(batch.labels, [batch.labels.length]);
    const onHead = ofHead.filter((acting) => isTrained(model.head.group, [acting]));
    const visit = (options: Omit<LossOptions, 'adapters'>) =>
      nextTokenLoss(hidden, labels, model.head, { adapters: ofHead, ...options });
    // An adapter on the head takes up its gradient in the visit, which then needs the weights of its labels.
    const isVisitedTwice = record && weigh !== undefined && onHead.length > 0;
    const known = isVisitedTwice ? weigh(lossesOf(visit({ record: false, wantHidden: false }))) : null;
    const chunks = visit({
      record,
      wantHidden,
      weights: known?.map((weight, label) => (owns(onHead, label) ? weight : 1)),
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
    if (weigh === undefined) {
      model.backward(gradient, saved);
      return result;
    }
    const weights = known ?? weigh(toFloat32Array(result.losses));
    const ofLabels = weightedRows(
      gradient,
      weights.map((weight, label) => (owns(onHead, label) ? 1 : weight)),
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
 */
export function judgedPass<Figure>(
  model: Decoder,
  batch: TokenBatch,
  options: Omit<LabelLossOptions, 'weigh'>,
  judge: (losses: Float32Array) => JudgedLosses<Figure>,
): PassLoss<Figure> {
  let found: JudgedLosses<Figure> | null = null;
  const weigh = (losses: Float32Array) => {
    found = judge(losses);
    return found.weights;
  };
  const labels = labelLosses(model, batch, { ...options, weigh });
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
