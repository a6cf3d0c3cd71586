import { type GroupRelativeObjective, MAX_ANSWER_ROUNDS } from '@lorasmith/contracts';
import { compileGrader } from '@lorasmith/graders';
import { type Decoder, type JoinedBatch, joinTokenBatches, rangesOf, tokensOfRows } from '@lorasmith/models';
import { type Examples, GradedRows, groupsOf, type PromptExamples } from '@lorasmith/planning';
import { scope, toFloat32Array } from '@lorasmith/tensor';
import { FORWARD_SHARE } from '../../shared-pass/engine-time.js';
import { type JudgedLosses, judgedMetrics, judgedPass, labelLosses } from '../label-losses.js';
import type {
  BatchLoss,
  EvaluationMetrics,
  ForwardRun,
  Objective,
  OwnMetrics,
  PassLoss,
  PassOptions,
  StepContext,
} from '../objective.js';
import { type ObjectiveRun, ofKind, type TrainedObjective } from '../trained-objective.js';
import { type AnswerFigures, groupMetrics, tokenLoss } from './group-loss.js';
import { askedRewards, calculatedRewards, type RewardSource } from './reward-source.js';
import { Rollouts } from './rollouts.js';
import { type AnswerBatch, type AnswerTokens, SampledGroups } from './sampled-groups.js';

/**
 * The loss of sampled answers by their rewards: of each, the losses of its tokens times its scale. It depends on the model through the
 * log-probabilities of the tokens alone, so its gradient is that of each label's cross entropy, times a weight.
 */
export class GroupRelative implements Objective<AnswerBatch, SampledGroups, AnswerFigures> {
  readonly #model: Decoder;

  constructor(model: Decoder) {
    this.#model = model;
  }

  async context(examples: SampledGroups, batches: readonly ArrayLike<number>[], run: ForwardRun): Promise<StepContext> {
    const groups = await examples.context(batches, run, (answers, { passes }, adapters) =>
      passes.inEngineCall(FORWARD_SHARE * answers.tokens.ids.length, () =>
        this.#logProbabilities(answers, { adapters }),
      ),
    );
    return { likelihoodShare: 0, divergence: 0, ...groups };
  }

  batch(examples: SampledGroups, indices: ArrayLike<number>, context: StepContext): AnswerBatch {
    return examples.batch(indices, context);
  }

  labelsIn({ tokens }: AnswerBatch): number {
    return tokens.labels.length;
  }

  tokensIn({ tokens }: AnswerBatch): number {
    return tokensOfRows(tokens);
  }

  computedIn({ tokens }: AnswerBatch): number {
    return tokens.ids.length;
  }

  /** The labels of the whole are its answers: each has one loss. */
  join(batches: readonly AnswerBatch[]): JoinedBatch<AnswerBatch> {
    const { batch, tokens, labels } = joinTokenBatches(batches.map((one) => one.tokens));
    const answers = batches.flatMap((one, i) =>
      one.answers.map((answer) => ({ ...answer, first: answer.first + labels[i]!.first })),
    );
    return { batch: { tokens: batch, answers }, tokens, labels: rangesOf(batches.map((one) => one.answers.length)) };
  }

  /** Rewards alone: answers to held-out prompts are not read again. The loss is the negative reward. */
  loss({ answers }: AnswerBatch): BatchLoss<AnswerFigures> {
    const figures = answers.map(({ answer }): AnswerFigures => ({ ...figuresOf(answer), trained: null }));
    return {
      lossSum: -figures.reduce((sum, { reward }) => sum + reward, 0),
      correct: figures.filter(({ hasEnded }) => hasEnded).length,
      normaliser: figures.length,
      figures,
    };
  }

  lossAndGradients(batch: AnswerBatch, options: PassOptions): PassLoss<AnswerFigures> {
    return this.#run(batch, options, true);
  }

  rowLosses(batch: AnswerBatch, options: PassOptions): Float32Array {
    return scope(() => toFloat32Array(this.#run(batch, options, false).losses));
  }

  metrics(losses: readonly BatchLoss<AnswerFigures>[]): EvaluationMetrics {
    return judgedMetrics(losses, this.ownMetrics);
  }

  ownMetrics(figures: readonly AnswerFigures[]): OwnMetrics {
    return { group: groupMetrics(figures) };
  }

  /** `[tokens]` of each answer. */
  #logProbabilities({ tokens, labels }: AnswerTokens, options: PassOptions): Float32Array[] {
    return scope(() => {
      const losses = toFloat32Array(labelLosses(this.#model, tokens, { ...options, record: false }).losses);
      return labels.map(({ first, count }) => losses.slice(first, first + count).map((loss) => -loss));
    });
  }

  #run({ tokens, answers }: AnswerBatch, options: PassOptions, record: boolean): PassLoss<AnswerFigures> {
    return judgedPass(this.#model, tokens, { ...options, record }, (losses) => judge(answers, losses));
  }
}

/** Prompts in a run, whose answers are sampled. */
export const groupRelative: TrainedObjective<PromptExamples, GroupRelative> = {
  create: (base) => new GroupRelative(ofKind(base, 'decoder')),
  async prepare(run) {
    const settings = groupsOf(run.options.spec)!;
    const { alike, plan } = run;
    const rollouts = await rolloutsOfSplits(run, settings);
    return {
      examplesOf: (examples) => new SampledGroups({ examples, settings, source: rollouts.of(examples), alike }),
      readsStart: settings.kl_weight > 0,
      rollouts: rollouts.of(plan.training),
    };
  },
};

/** The rollouts of the examples to train on, and of those to evaluate on. */
interface RolloutsOfSplits {
  /** @param examples those of one split of the plan */
  of(examples: Examples): Rollouts;
}

/** @throws ProductError `dataset_not_found`, `cancelled` */
export async function rolloutsOfSplits(
  { options, plan, model, base: loaded, texts, id, passes }: ObjectiveRun,
  settings: GroupRelativeObjective,
): Promise<RolloutsOfSplits> {
  const { spec, rowsFile, validation = null, checkpointFolder, signal, askGrader, onEvent } = options;
  const base = ofKind(loaded, 'decoder');
  const text = await texts.of(model.path);
  const grader = compileGrader(settings.grader);
  const rewardsWith = (rows: GradedRows): RewardSource => {
    if (grader.kind === 'here') return calculatedRewards(grader, { text, rows });
    if (askGrader === undefined) throw new Error('a job with a grader that is asked, and nothing that asks it');
    return askedRewards(askGrader, grader, { text, rows, signal });
  };
  const readBefore = plan.graded;
  const rows = readBefore.training ?? (await GradedRows.read(rowsFile, signal));
  const ofValidation = validation && (readBefore.validation ?? (await GradedRows.read(validation.rowsFile, signal)));
  const { seed, batch_size: batchSize, gradient_accumulation_steps: accumulation } = spec.training;
  const rolloutsOn = (graded: GradedRows) =>
    new Rollouts({
      base,
      text,
      settings,
      rewards: rewardsWith(graded),
      seed,
      promptsAtOnce: batchSize * accumulation,
      kept: { folder: checkpointFolder, run: id },
      passes,
      shownEvery: Math.ceil(plan.steps.total / settings.updates_per_batch / MAX_ANSWER_ROUNDS),
      onAnswers: (data) => onEvent({ type: 'answers-graded', data }),
    });
  const training = rolloutsOn(rows);
  const ofHeldOut = ofValidation === null ? training : rolloutsOn(ofValidation);
  return { of: (examples) => (examples === plan.validation ? ofHeldOut : training) };
}

/** @param losses `[labels]` cross entropies */
function judge(answers: AnswerBatch['answers'], losses: Float32Array): JudgedLosses<AnswerFigures> {
  const ofAnswers = new Float32Array(answers.length);
  const weights = new Float32Array(losses.length);
  const figures = answers.map(({ answer, first, settings }, position): AnswerFigures => {
    const { advantage, scale, ids } = answer;
    let [loss, clipped, divergence] = [0, 0, 0];
    for (let token = 0; token < ids.length; token++) {
      const found = tokenLoss(
        {
          logProbability: -losses[first + token]!,
          sampled: answer.sampled === null ? null : answer.sampled[token]!,
          reference: answer.reference === null ? null : answer.reference[token]!,
          advantage,
        },
        settings,
      );
      loss += found.loss;
      weights[first + token] = -scale * found.slope;
      if (found.isClipped) clipped++;
      divergence += found.divergence;
    }
    ofAnswers[position] = scale * loss;
    return { ...figuresOf(answer), trained: { clipped, divergence: answer.reference === null ? null : divergence } };
  });
  const correct = Float32Array.from(figures, ({ hasEnded }) => (hasEnded ? 1 : 0));
  return { losses: ofAnswers, correct, figures, weights };
}

function figuresOf({ reward, isFlat, ids, hasEnded }: AnswerBatch['answers'][number]['answer']) {
  return { reward, isFlat, tokens: ids.length, hasEnded };
}
