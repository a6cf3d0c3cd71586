import { hasReference, type PreferenceLoss, type PreferenceObjective } from '@lorasmith/contracts';
import type { RowsAlike } from '@lorasmith/models';
import { type PairExamples, type TokenPair, trainedOf } from '@lorasmith/planning';
import type { StepContext } from '../objective.js';
import type { TrainedObjective } from '../trained-objective.js';
import { type Preference, preferenceOn, preferenceSettings } from './preference.js';
import {
  type JudgedExamples,
  type JudgedSequence,
  type Judgement,
  type PreferenceBatch,
  type PreferenceFigures,
  type SequenceBatch,
  type SequenceSums,
  sequenceBatchOf,
} from './preference-batch.js';
import { logOddsRatio, logSigmoid, type PairScores, pairLoss, perToken, ratios } from './preference-losses.js';
import { withReference } from './reference-pass.js';

export interface JudgedPairsOptions {
  examples: PairExamples;
  settings: PreferenceObjective;
  /** `[pairs, 2]` of the chosen and the rejected answers; null for a loss without one, and while it is computed */
  reference: Float32Array | null;
  /** See tokenBatchOf. */
  alike: RowsAlike;
}

/** Pairs of answers with what a job's loss needs of them. */
export class JudgedPairs implements JudgedExamples {
  readonly count: number;
  readonly referenceScores: number;
  readonly #examples: PairExamples;
  readonly #settings: PreferenceObjective;
  readonly #reference: Float32Array | null;
  readonly #alike: RowsAlike;

  constructor({ examples, settings, reference, alike }: JudgedPairsOptions) {
    this.count = examples.count;
    this.referenceScores = hasReference(settings.loss) ? 2 : 0;
    this.#examples = examples;
    this.#settings = settings;
    this.#reference = reference;
    this.#alike = alike;
  }

  batch(indices: ArrayLike<number>, { likelihoodShare }: StepContext): PreferenceBatch {
    const weight = this.#settings.sft_weight * likelihoodShare;
    const settings = this.#settings;
    const judges = Array.from(indices, (index) => {
      const reference = this.#reference && {
        chosen: this.#reference[2 * index]!,
        rejected: this.#reference[2 * index + 1]!,
      };
      const judge = (sums: readonly SequenceSums[]) => judgePair(sums, { settings, weight, reference });
      return { sequences: 2, judge };
    });
    return { ...this.scored(indices), judges };
  }

  scored(indices: ArrayLike<number>): SequenceBatch {
    const { loss, sft_weight: weight } = this.#settings;
    const hasPrompts = loss === 'orpo' && weight > 0;
    return sequenceBatchOf(
      Array.from(indices, (index) => this.#examples.pair(index)).flatMap(({ chosen, rejected }) => [
        sequenceOf(chosen, hasPrompts),
        sequenceOf(rejected, false),
      ]),
      this.#alike,
    );
  }

  async context(batches: readonly ArrayLike<number>[]): Promise<StepContext> {
    const { loss, sft_weight: weight } = this.#settings;
    if (weight === 0) return { likelihoodShare: 0, divergence: 0 };
    let [pairs, tokens] = [0, 0];
    for (const indices of batches) {
      pairs += indices.length;
      for (const index of Array.from(indices)) {
        const { chosen } = this.#examples.pair(index);
        tokens += loss === 'orpo' ? chosen.ids.length - 1 : trainedOf(chosen);
      }
    }
    return { likelihoodShare: pairs / tokens, divergence: 0 };
  }
}

/** Pairs of answers in a run. */
export const preference: TrainedObjective<PairExamples, Preference> = {
  create: preferenceOn,
  prepare(run, loss) {
    const settings = preferenceSettings(run.options.spec);
    const { alike } = run;
    return withReference(run, loss, (examples: PairExamples, reference) => {
      return new JudgedPairs({ examples, settings, reference, alike });
    });
  },
};

/** @param isWhole true if the tokens of the prompt are labels, too */
function sequenceOf({ ids, trained }: TokenPair['chosen'], isWhole: boolean): JudgedSequence {
  const labels = isWhole ? new Uint8Array(ids.length).fill(1) : trained;
  return { ids, labels, answer: trained };
}

/** The terms of a pair's loss besides its log-probabilities. */
interface PairTerms {
  settings: PreferenceObjective;
  /** The weight of the cross entropy of a label of the chosen sequence in the loss of the pair, besides what compares it. */
  weight: number;
  reference: PairScores['reference'];
}

function judgePair(sums: readonly SequenceSums[], { settings, weight, reference }: PairTerms): Judgement {
  const [chosen, rejected] = sums as [SequenceSums, SequenceSums];
  const scores: PairScores = {
    chosen: chosen.answer,
    rejected: rejected.answer,
    chosenTokens: chosen.answerTokens,
    rejectedTokens: rejected.answerTokens,
    reference,
  };
  const { loss, ...slopes } = pairLoss(scores, settings);
  return {
    loss: loss - weight * chosen.all,
    weights: [
      { ofAnswer: weight - slopes.chosen, ofPrompt: weight },
      { ofAnswer: -slopes.rejected, ofPrompt: 0 },
    ],
    figures: figuresOf(scores, settings, { sum: -chosen.all, tokens: chosen.tokens }),
  };
}

function figuresOf(
  scores: PairScores,
  { loss, beta, sft_weight: sftWeight }: PreferenceObjective,
  likelihood: NonNullable<PreferenceFigures['likelihood']>,
): PreferenceFigures {
  const { chosen, rejected } = MEAN_LOSSES.includes(loss) ? perToken(scores) : scores;
  const [ofChosen, ofRejected] = ratios({ ...scores, chosen, rejected });
  const logOdds = loss === 'orpo' ? logOddsRatio(scores) : null;
  const reward = { chosen: beta * ofChosen, rejected: beta * ofRejected };
  return {
    chosen: { reward: reward.chosen, logp: chosen },
    rejected: { reward: reward.rejected, logp: rejected },
    isRight: reward.chosen > reward.rejected,
    likelihood: sftWeight > 0 ? likelihood : null,
    logOdds: logOdds === null ? null : { ratio: logSigmoid(logOdds), chosen: logOdds },
    kl: null,
  };
}

/** The losses whose rewards TRL reports as means over tokens. */
const MEAN_LOSSES: readonly PreferenceLoss[] = ['orpo', 'simpo'];
