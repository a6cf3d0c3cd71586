import type { GroupRelativeObjective } from '@lorasmith/contracts';
import {
  type ActingAdapter,
  type LabelRange,
  type RowsAlike,
  rangesOf,
  type TokenBatch,
  tokenBatchOf,
} from '@lorasmith/models';
import type { PromptExamples } from '@lorasmith/planning';
import type { ForwardRun, StepContext } from '../objective.js';
import {
  advantagesOf,
  type GradedAnswer,
  type JudgedAnswer,
  type RolloutPrompt,
  type SampledAnswer,
} from './group-loss.js';

/** Answers in one stream, with the labels of each. */
export interface AnswerBatch {
  tokens: TokenBatch;
  answers: readonly { answer: JudgedAnswer; first: number; settings: GroupRelativeObjective }[];
}

/** Changes new answers of a step before they are kept. @throws ProductError `cancelled` */
export type ReadAnswers = (groups: readonly SampledAnswer[][]) => Promise<void>;

/** A source of graded answers: Rollouts samples them. */
export interface AnswerSource {
  /** @throws ProductError `cancelled`, `non_finite_loss`, `grader_failed`, `storage_full` */
  of(prompts: readonly RolloutPrompt[], run: ForwardRun, read: ReadAnswers): Promise<GradedAnswer[][]>;
}

/** Answers in one stream, with the range of the labels of each. */
export interface AnswerTokens {
  tokens: TokenBatch;
  labels: readonly LabelRange[];
}

/** Log-probabilities of the tokens of each answer, in a forward pass with these adapters. @throws ProductError `cancelled` */
export type LogProbabilitiesOf = (
  answers: AnswerTokens,
  run: ForwardRun,
  adapters: readonly ActingAdapter[],
) => Promise<Float32Array[]>;

export interface SampledGroupsOptions {
  examples: PromptExamples;
  settings: GroupRelativeObjective;
  source: AnswerSource;
  /** See tokenBatchOf. */
  alike: RowsAlike;
}

/** Prompts with the answers that are sampled to them. */
export class SampledGroups {
  readonly count: number;
  readonly #examples: PromptExamples;
  readonly #settings: GroupRelativeObjective;
  readonly #source: AnswerSource;
  readonly #alike: RowsAlike;

  constructor({ examples, settings, source, alike }: SampledGroupsOptions) {
    this.count = examples.count;
    this.#examples = examples;
    this.#settings = settings;
    this.#source = source;
    this.#alike = alike;
  }

  /** The graded answers to the prompts of a step, or of an evaluation. @throws ProductError `cancelled`, `grader_failed` */
  async context(
    batches: readonly ArrayLike<number>[],
    run: ForwardRun,
    logProbabilitiesOf: LogProbabilitiesOf,
  ): Promise<Pick<StepContext, 'groups'>> {
    const indices = batches.flatMap((batch) => Array.from(batch));
    const prompts = indices.map((index) => ({ ids: this.#examples.prompt(index), line: this.#examples.lineOf(index) }));
    const groups = new Map<number, JudgedAnswer[]>();
    const read: ReadAnswers = async (sampled) => {
      if (this.#settings.updates_per_batch === 1) return;
      for (const { first, count } of rangesOf(batches.map(({ length }) => length))) {
        const ofBatch = sampled.slice(first, first + count);
        const answers = ofBatch.flatMap((group, position) => this.#growing(prompts[first + position]!.ids, group));
        if (answers.length === 0) continue;
        const found = await logProbabilitiesOf(tokensOf(answers, this.#alike), run, run.adapters);
        for (const [position, { answer }] of answers.entries()) answer.logProbabilities = found[position]!;
      }
    };
    const judged = this.#judged(prompts, await this.#source.of(prompts, run, read));
    for (const [position, index] of indices.entries()) groups.set(index, judged[position]!);
    if (run.step == null || this.#settings.kl_weight === 0) return { groups };
    for (const batch of batches) {
      const { tokens, answers } = this.batch(batch, { groups });
      const labels = answers.map(({ answer, first }) => ({ first, count: answer.ids.length }));
      for (const [position, found] of (
        await logProbabilitiesOf({ tokens, labels }, run, run.reference ?? [])
      ).entries()) {
        answers[position]!.answer.reference = found;
      }
    }
    return { groups };
  }

  /**
   * The answers with which a text grows so long that a pass over it has other rotary angles than sampling had (dynamic scaling, longrope). Their
   * log-probabilities before the first update are those of a pass, as TRL computes them for all answers.
   */
  #growing<Answer extends { ids: Int32Array }>(prompt: Int32Array, group: readonly Answer[]) {
    const growing = group.filter(({ ids }) => !this.#alike(prompt.length, prompt.length + ids.length));
    return growing.map((answer) => ({ prompt, ids: answer.ids, answer }));
  }

  batch(indices: ArrayLike<number>, { groups }: Pick<StepContext, 'groups'>): AnswerBatch {
    const settings = this.#settings;
    const answers = Array.from(indices).flatMap((index) => groups!.get(index)!);
    return answerBatchOf(
      answers.map((answer) => ({ answer, settings })),
      this.#alike,
    );
  }

  /** The answers with what the loss needs of them, compared with each other. */
  #judged(prompts: readonly { ids: Int32Array }[], groups: readonly GradedAnswer[][]): JudgedAnswer[][] {
    const { normalization, max_completion_tokens: most, updates_per_batch: updates } = this.#settings;
    const all = groups.flat();
    const tokens = all.reduce((sum, { ids }) => sum + ids.length, 0);
    const { values, isFlat } = advantagesOf(
      Float64Array.from(all, ({ reward }) => reward),
      this.#settings,
    );
    let next = 0;
    return groups.map((group, position) =>
      group.map((answer) => ({
        ...answer,
        prompt: prompts[position]!.ids,
        advantage: values[next++]!,
        isFlat: isFlat[position]!,
        sampled: updates > 1 ? answer.logProbabilities : null,
        reference: null,
        scale: { dapo: all.length / tokens, grpo: 1 / answer.ids.length, dr_grpo: 1 / most }[normalization],
      })),
    );
  }
}

function answerBatchOf(
  given: readonly { answer: JudgedAnswer; settings: GroupRelativeObjective }[],
  alike: RowsAlike,
): AnswerBatch {
  const { tokens, labels } = tokensOf(
    given.map(({ answer }) => answer),
    alike,
  );
  return { tokens, answers: given.map((one, position) => ({ ...one, first: labels[position]!.first })) };
}

function tokensOf(given: readonly { prompt: Int32Array; ids: Int32Array }[], alike: RowsAlike): AnswerTokens {
  const tokens = tokenBatchOf(
    given.map(({ prompt, ids }) => {
      const whole = new Int32Array(prompt.length + ids.length);
      whole.set(prompt);
      whole.set(ids, prompt.length);
      return { ids: whole, trained: new Uint8Array(whole.length).fill(1, prompt.length) };
    }),
    alike,
  );
  const ranges = rangesOf(tokens.order.map((position) => given[position]!.ids.length));
  const labels: LabelRange[] = [];
  for (const [position, sequence] of tokens.order.entries()) labels[sequence] = ranges[position]!;
  return { tokens, labels };
}
