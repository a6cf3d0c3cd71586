import type { PreferenceObjective } from '@lorasmith/contracts';
import type { RowsAlike } from '@lorasmith/models';
import { type LabelledAnswer, type LabelledExamples, maxTokensOf, type Plan, type RowOrder } from '@lorasmith/planning';
import type { StepContext } from '../objective.js';
import type { TrainedObjective } from '../trained-objective.js';
import { type Preference, preferenceOn, preferenceSettings } from './preference.js';
import {
  type JudgedExamples,
  type JudgedSequence,
  type Judgement,
  type PreferenceBatch,
  type ScoresOf,
  type SequenceBatch,
  type SequenceSums,
  sequenceBatchOf,
} from './preference-batch.js';
import { answerLoss } from './preference-losses.js';
import { withReference } from './reference-pass.js';

export interface JudgedAnswersOptions {
  examples: LabelledExamples;
  settings: PreferenceObjective;
  /** `[answers]` the answer whose completion each prompt is paired with; see {@link partnersWithin}. */
  partners: Int32Array;
  /** Most tokens of a sequence. A prompt with the answer to another may have more, and is then cut. */
  maxTokens: number;
  /** `[answers, referenceScores]`; null while it is computed. */
  reference: Float32Array | null;
  /** See tokenBatchOf. */
  alike: RowsAlike;
}

/** Answers with a label, with what a job's loss needs of them. */
export class JudgedAnswers implements JudgedExamples {
  readonly count: number;
  /** One of the answer itself, and for kto one of its partner's answer to the same prompt. */
  readonly referenceScores: 1 | 2;
  readonly #options: JudgedAnswersOptions;

  constructor(options: JudgedAnswersOptions) {
    this.count = options.examples.count;
    this.referenceScores = options.settings.loss === 'kto' ? 2 : 1;
    this.#options = options;
  }

  batch(indices: ArrayLike<number>, { divergence }: StepContext): PreferenceBatch {
    const { examples, settings, alike } = this.#options;
    const answers = Array.from(indices, (index) => examples.answer(index));
    const judges = answers.map(({ label }, position) => {
      const reference = this.#referenceOf(indices[position]!, 0);
      const judge = ([own]: readonly SequenceSums[]) => judgeAnswer(own!, { settings, label, reference, divergence });
      return { sequences: 1, judge };
    });
    return { ...sequenceBatchOf(answers.map(sequenceOf), alike), judges };
  }

  scored(indices: ArrayLike<number>): SequenceBatch {
    const { examples, alike } = this.#options;
    const own = (index: number) => sequenceOf(examples.answer(index));
    return sequenceBatchOf(
      Array.from(indices).flatMap((index) =>
        this.referenceScores === 2 ? [own(index), this.#mismatched(index)] : [own(index)],
      ),
      alike,
    );
  }

  /** The divergence is that of the answers to other prompts of the step, as the model is before it. */
  async context(batches: readonly ArrayLike<number>[], scoresOf: ScoresOf): Promise<StepContext> {
    const context = { likelihoodShare: 0, divergence: 0 };
    if (this.referenceScores === 1) return context;
    let [sum, count] = [0, 0];
    for (const indices of batches) {
      const mismatched = Array.from(indices, (index) => this.#mismatched(index));
      const scores = await scoresOf(sequenceBatchOf(mismatched, this.#options.alike));
      for (const [position, score] of scores.entries()) sum += score - this.#referenceOf(indices[position]!, 1);
      count += indices.length;
    }
    return { ...context, divergence: Math.max(0, sum / count) };
  }

  /** The prompt of an answer with the answer of its partner. */
  #mismatched(index: number): JudgedSequence {
    const { examples, partners, maxTokens } = this.#options;
    const { sequence: own } = examples.answer(index);
    const { sequence: other } = examples.answer(partners[index]!);
    const [prompt, completion] = [own.trained.indexOf(1), other.trained.indexOf(1)];
    const length = Math.min(maxTokens, prompt + other.ids.length - completion);
    const ids = new Int32Array(length);
    const trained = new Uint8Array(length);
    ids.set(own.ids.subarray(0, prompt));
    ids.set(other.ids.subarray(completion, completion + length - prompt), prompt);
    trained.set(other.trained.subarray(completion, completion + length - prompt), prompt);
    return { ids, labels: trained, answer: trained };
  }

  #referenceOf(index: number, score: 0 | 1): number {
    return this.#options.reference![this.referenceScores * index + score]!;
  }
}

/** Answers with a label in a run. */
export const labelled: TrainedObjective<LabelledExamples, Preference> = {
  create: preferenceOn,
  prepare(run, loss) {
    const { options, plan, model, rows, alike } = run;
    const { spec } = options;
    const settings = preferenceSettings(spec);
    const maxTokens = maxTokensOf({ spec, model });
    return withReference(run, loss, (examples: LabelledExamples, reference) => {
      const { count } = examples;
      const steps = examples === plan.training ? stepsOfEpoch(rows, plan) : [[...Array(count).keys()]];
      const partners = partnersWithin(steps, count);
      return new JudgedAnswers({ examples, settings, partners, maxTokens, reference, alike });
    });
  },
};

/** The examples of each step of an epoch. */
function* stepsOfEpoch(rows: RowOrder, { steps }: Plan): Generator<number[]> {
  for (let step = 0; step < steps.perEpoch; step++) {
    yield rows.rowsOf(step).microBatches.flatMap((microBatch) => [...microBatch]);
  }
}

/**
 * The partner of each answer: the one before it in its step, of the first the last. So the answers of a step are all read once with
 * another prompt, as in TRL. The steps are those of one epoch and stay the same in all of them: so the reference is read once,
 * before the training.
 * @param steps the answers of each step
 */
export function partnersWithin(steps: Iterable<ArrayLike<number>>, count: number): Int32Array {
  const partners = new Int32Array(count);
  for (const answers of steps) {
    for (let i = 0; i < answers.length; i++)
      partners[answers[i]!] = answers[(i + answers.length - 1) % answers.length]!;
  }
  return partners;
}

function sequenceOf({ sequence }: LabelledAnswer): JudgedSequence {
  return { ids: sequence.ids, labels: sequence.trained, answer: sequence.trained };
}

/** The terms of an answer's loss besides its log-probability. */
interface AnswerTerms {
  settings: PreferenceObjective;
  label: boolean;
  /** Its log-probability under the reference. */
  reference: number;
  divergence: number;
}

function judgeAnswer(own: SequenceSums, { settings, label, reference, divergence }: AnswerTerms): Judgement {
  const { beta } = settings;
  const logRatio = own.answer - reference;
  const { loss, slope } = answerLoss({ logRatio, label, divergence }, settings);
  const figures = { reward: beta * logRatio, logp: own.answer };
  return {
    loss,
    weights: [{ ofAnswer: -slope, ofPrompt: 0 }],
    figures: {
      chosen: label ? figures : null,
      rejected: label ? null : figures,
      isRight: label ? logRatio > divergence : logRatio < divergence,
      likelihood: null,
      logOdds: null,
      kl: divergence,
    },
  };
}
