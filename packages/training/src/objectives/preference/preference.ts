import type { PreferenceLoss } from '@lorasmith/contracts';
import type { Decoder, JoinedBatch } from '@lorasmith/models';
import { dispose, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { labelLosses } from '../label-losses.js';
import {
  type BatchLoss,
  type EvaluationMetrics,
  meanOf,
  type Objective,
  type PassLoss,
  type PassOptions,
  takeBatchLoss,
} from '../objective.js';
import {
  type BatchPair,
  type JudgedPairs,
  joinPairBatches,
  type LabelRun,
  likelihoodShare,
  type PairBatch,
  pairBatchOf,
} from './pair-batch.js';
import { isRight, type PairFigures, preferenceMetrics } from './pair-figures.js';
import { logOddsRatio, logSigmoid, type PairScores, pairLoss, perToken, ratios } from './pair-losses.js';

/**
 * A loss of two answers to a prompt. It depends on the model through the log-probabilities of the answers alone, so its gradient is that of
 * each label's cross entropy, times a weight.
 */
export class Preference implements Objective<PairBatch, JudgedPairs> {
  readonly kind = 'preference';
  readonly #model: Decoder;

  constructor(model: Decoder) {
    this.#model = model;
  }

  batch(examples: JudgedPairs, indices: ArrayLike<number>, share: number): PairBatch {
    return pairBatchOf(examples, indices, share);
  }

  likelihoodShare(examples: JudgedPairs, batches: readonly ArrayLike<number>[]): number {
    return likelihoodShare(examples, batches);
  }

  labelsIn({ tokens }: PairBatch): number {
    return tokens.labels.length;
  }

  join(batches: readonly PairBatch[]): JoinedBatch<PairBatch> {
    return joinPairBatches(batches);
  }

  loss(batch: PairBatch, options: PassOptions): BatchLoss {
    return takeBatchLoss(this.#run(batch, options, false));
  }

  lossAndGradients(batch: PairBatch, options: PassOptions): PassLoss {
    return this.#run(batch, options, true);
  }

  rowLosses(batch: PairBatch, options: PassOptions): Float32Array {
    return scope(() => toFloat32Array(this.#run(batch, options, false).losses));
  }

  /** `[pairs, 2]` log-probabilities of the chosen and the rejected answers. */
  scores(batch: PairBatch, options: PassOptions): Float32Array {
    return scope(() => {
      const losses = toFloat32Array(labelLosses(this.#model, batch.tokens, { ...options, record: false }).losses);
      return Float32Array.from(
        batch.pairs.flatMap(({ chosen, rejected }) => [chosen, rejected].map((run) => sumsOf(losses, run).answer)),
      );
    });
  }

  metrics(losses: readonly BatchLoss[]): EvaluationMetrics {
    const preference = preferenceMetrics(losses.flatMap(({ pairs = [] }) => pairs));
    return { ...meanOf(losses), perplexity: null, preference };
  }

  #run({ tokens, pairs }: PairBatch, options: PassOptions, record: boolean): PassLoss {
    const judged: JudgedPair[] = [];
    const judgeAll = (losses: Float32Array) => void judged.push(...pairs.map((pair) => judge(pair, losses)));
    const weigh = (losses: Float32Array) => {
      judgeAll(losses);
      return weightsOf(judged, losses.length);
    };
    const { losses, correct } = labelLosses(this.#model, tokens, { ...options, record, weigh });
    if (judged.length === 0) judgeAll(toFloat32Array(losses));
    dispose([losses, correct]);
    return {
      losses: tensorOf(
        Float32Array.from(judged, ({ loss }) => loss),
        [pairs.length],
      ),
      correct: tensorOf(
        Float32Array.from(judged, ({ figures }) => (isRight(figures) ? 1 : 0)),
        [pairs.length],
      ),
      normaliser: pairs.length,
      pairs: judged.map(({ figures }) => figures),
    };
  }
}

/** The loss of a pair, with its derivatives by the losses of its labels. */
interface JudgedPair {
  loss: number;
  weights: { run: LabelRun; ofAnswer: number; ofPrompt: number }[];
  figures: PairFigures;
}

/** @param losses `[labels]` of the batch */
function judge(
  { settings, likelihoodWeight, chosen, rejected, reference }: BatchPair,
  losses: Float32Array,
): JudgedPair {
  const [ofChosen, ofRejected] = [sumsOf(losses, chosen), sumsOf(losses, rejected)];
  const scores: PairScores = {
    chosen: ofChosen.answer,
    rejected: ofRejected.answer,
    chosenTokens: ofChosen.answerTokens,
    rejectedTokens: ofRejected.answerTokens,
    reference,
  };
  const { loss, ...slopes } = pairLoss(scores, settings);
  return {
    loss: loss - likelihoodWeight * ofChosen.all,
    weights: [
      { run: chosen, ofAnswer: likelihoodWeight - slopes.chosen, ofPrompt: likelihoodWeight },
      { run: rejected, ofAnswer: -slopes.rejected, ofPrompt: 0 },
    ],
    figures: figuresOf(scores, settings, { sum: -ofChosen.all, tokens: chosen.count }),
  };
}

function figuresOf(
  scores: PairScores,
  { loss, beta, sft_weight: sftWeight }: BatchPair['settings'],
  likelihood: NonNullable<PairFigures['likelihood']>,
): PairFigures {
  const { chosen, rejected } = MEAN_LOSSES.includes(loss) ? perToken(scores) : scores;
  const [ofChosen, ofRejected] = ratios({ ...scores, chosen, rejected });
  const logOdds = loss === 'orpo' ? logOddsRatio(scores) : null;
  return {
    rewards: { chosen: beta * ofChosen, rejected: beta * ofRejected },
    logps: { chosen, rejected },
    likelihood: sftWeight > 0 ? likelihood : null,
    logOdds: logOdds === null ? null : { ratio: logSigmoid(logOdds), chosen: logOdds },
  };
}

/** The losses whose rewards TRL reports as means over tokens. */
const MEAN_LOSSES: readonly PreferenceLoss[] = ['orpo', 'simpo'];

/** The log-probabilities of a sequence: of its answer, in float32 as a reference keeps them, and of all its labels. */
function sumsOf(losses: Float32Array, { first, count, isAnswer }: LabelRun) {
  let [answer, answerTokens, all] = [0, 0, 0];
  for (let label = 0; label < count; label++) {
    const logProbability = -losses[first + label]!;
    all += logProbability;
    if (isAnswer[label] === 0) continue;
    answer += logProbability;
    answerTokens++;
  }
  return { answer: Math.fround(answer), answerTokens, all };
}

/** `[labels]` */
function weightsOf(judged: readonly JudgedPair[], labels: number): Float32Array {
  const weights = new Float32Array(labels);
  for (const { run, ofAnswer, ofPrompt } of judged.flatMap((pair) => pair.weights)) {
    for (let label = 0; label < run.count; label++) {
      weights[run.first + label] = run.isAnswer[label] === 1 ? ofAnswer : ofPrompt;
    }
  }
  return weights;
}
