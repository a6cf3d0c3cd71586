import type { SessionDatum, SessionLoss } from '@lorasmith/contracts';
import { type Decoder, type JoinedBatch, joinTokenBatches, rangesOf, type TokenBatch } from '@lorasmith/models';
import { scope, toFloat32Array } from '@lorasmith/tensor';
import { type JudgedLosses, judgedPass } from '../objectives/label-losses.js';
import {
  type BatchLoss,
  type EvaluationMetrics,
  lossAndAccuracy,
  type Objective,
  type PassLoss,
  type PassOptions,
  takeBatchLoss,
} from '../objectives/objective.js';
import { type DatumLoss, LOSS_RULES } from './session-losses.js';

/** Data of one op, or of several sessions in one pass. */
export interface SessionBatch {
  tokens: TokenBatch;
  /** The data in the order in which they were given. */
  data: readonly JudgedDatum[];
}

/** A datum in a batch, with its loss. */
interface JudgedDatum {
  /** The first of its labels. */
  first: number;
  datum: SessionDatum;
  loss: SessionLoss;
  settings: Readonly<Record<string, number>>;
}

/** The result of a pass for a datum. */
export interface DatumFigures extends DatumLoss {
  /** `[targets]` */
  logProbabilities: Float32Array;
}

/**
 * The losses of training sessions. They depend on the model through the log-probabilities of the targets alone, so the gradient is that of each
 * target's cross entropy, times a weight. Every position is predicted, since clients read all log-probabilities.
 */
export class SessionObjective implements Objective<SessionBatch, never, DatumFigures> {
  readonly #model: Decoder;

  constructor(model: Decoder) {
    this.#model = model;
  }

  batch(): SessionBatch {
    throw new Error('a session makes its batches itself');
  }

  tokensIn({ tokens }: SessionBatch): number {
    return tokens.ids.length;
  }

  computedIn({ tokens }: SessionBatch): number {
    return tokens.ids.length;
  }

  labelsIn({ tokens }: SessionBatch): number {
    return tokens.labels.length;
  }

  /** The labels of the whole are its data: each has one loss. */
  join(batches: readonly SessionBatch[]): JoinedBatch<SessionBatch> {
    const { batch, tokens, labels } = joinTokenBatches(batches.map((one) => one.tokens));
    const data = batches.flatMap((one, i) =>
      one.data.map((datum) => ({ ...datum, first: datum.first + labels[i]!.first })),
    );
    return { batch: { tokens: batch, data }, tokens, labels: rangesOf(batches.map((one) => one.data.length)) };
  }

  loss(batch: SessionBatch, options: PassOptions): BatchLoss<DatumFigures> {
    return takeBatchLoss(this.#run(batch, options, false));
  }

  lossAndGradients(batch: SessionBatch, options: PassOptions): PassLoss<DatumFigures> {
    return this.#run(batch, options, true);
  }

  rowLosses(batch: SessionBatch, options: PassOptions): Float32Array {
    return scope(() => toFloat32Array(this.#run(batch, options, false).losses));
  }

  metrics(losses: readonly BatchLoss<DatumFigures>[]): EvaluationMetrics {
    return { ...lossAndAccuracy(losses), perplexity: null };
  }

  #run({ tokens, data }: SessionBatch, options: PassOptions, record: boolean): PassLoss<DatumFigures> {
    const judged = (losses: Float32Array) => judge(data, losses);
    return judgedPass(this.#model, tokens, { ...options, record }, judged, record ? knownWeights(data, tokens) : null);
  }
}

const made = new WeakMap<Decoder, Map<number, SessionObjective>>();

/** The objective of all sessions on a base model whose positions have this number of targets, so that their batches can be joined. */
export function sessionObjectiveOn(base: Decoder, targetsEach: number): SessionObjective {
  const onBase = made.get(base) ?? new Map<number, SessionObjective>();
  made.set(base, onBase);
  const objective = onBase.get(targetsEach) ?? new SessionObjective(base);
  onBase.set(targetsEach, objective);
  return objective;
}

/** Data of an op in one stream, sorted by length. @param data with the same number of targets of a position */
export function sessionBatchOf(
  data: readonly SessionDatum[],
  { loss, settings }: Pick<JudgedDatum, 'loss' | 'settings'>,
): SessionBatch {
  const order = [...data.keys()].sort((a, b) => data[b]!.tokens.length - data[a]!.tokens.length);
  const sorted = order.map((index) => data[index]!);
  const ids = joined(sorted.map(({ tokens }) => tokens));
  const ranges = rangesOf(sorted.map(({ targets }) => targets.length));
  const judged: JudgedDatum[] = [];
  for (const [position, index] of order.entries()) {
    judged[index] = { first: ranges[position]!.first, datum: data[index]!, loss, settings };
  }
  const tokens = {
    ids,
    rowLengths: sorted.map((datum) => datum.tokens.length),
    places: null,
    predictors: Int32Array.from(ids.keys()),
    labels: joined(sorted.map(({ targets }) => targets)),
    order,
  };
  return { tokens, data: judged };
}

function joined(parts: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** `[labels]` the weights of a batch; null where those of a datum depend on the model. */
function knownWeights(data: readonly JudgedDatum[], { labels }: TokenBatch): Float32Array | null {
  const weights = new Float32Array(labels.length);
  for (const { first, datum, loss } of data) {
    const known = LOSS_RULES[loss].knownWeights(datum);
    if (known === null) return null;
    weights.set(known, first);
  }
  return weights;
}

/** @param losses `[labels]` cross entropies */
function judge(data: readonly JudgedDatum[], losses: Float32Array): JudgedLosses<DatumFigures> {
  const weights = new Float32Array(losses.length);
  const figures = data.map(({ first, datum, loss, settings }): DatumFigures => {
    const logProbabilities = losses.slice(first, first + datum.targets.length).map((value) => -value);
    const found = LOSS_RULES[loss].of(logProbabilities, datum, settings);
    weights.set(found.weights, first);
    return { ...found, logProbabilities };
  });
  const none = new Float32Array(data.length);
  return { losses: Float32Array.from(figures, (one) => one.loss), correct: none, figures, weights };
}
