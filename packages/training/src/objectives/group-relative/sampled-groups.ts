import type { GroupRelativeObjective } from '@lorasmith/contracts';
import { type RowsAlike, rangesOf, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import type { PromptExamples } from '@lorasmith/planning';
import type { ForwardRun, StepContext } from '../step-context.js';
import { advantagesOf } from './advantages.js';
import type { GradedAnswer, JudgedAnswer, RolloutPrompt } from './graded-answer.js';

/** Answers in one stream, with the labels of each. */
export interface AnswerBatch {
  tokens: TokenBatch;
  answers: readonly { answer: JudgedAnswer; first: number; settings: GroupRelativeObjective }[];
}

/** A source of graded answers: Rollouts samples them. */
export interface AnswerSource {
  /** @throws ProductError `cancelled`, `non_finite_loss`, `grader_failed`, `storage_full` */
  of(prompts: readonly RolloutPrompt[], run: ForwardRun): Promise<GradedAnswer[][]>;
}

/** Log-probabilities of the tokens of answers, in a forward pass of the reference. @throws ProductError `cancelled` */
export type ReferenceOf = (batch: AnswerBatch, run: ForwardRun) => Promise<Float32Array[]>;

export interface SampledGroupsOptions {
  examples: PromptExamples;
  settings: GroupRelativeObjective;
  source: AnswerSource;
  /** See tokenBatchOf. */
  alike: RowsAlike;
}

/** Prompts with the answers that are sampled to them. */
export class SampledGroups {
  readonly kind = 'group-relative';
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

  lengthOf(index: number): number {
    return this.#examples.lengthOf(index);
  }

  lineOf(index: number): number {
    return this.#examples.lineOf(index);
  }

  /** The graded answers to the prompts of a step, or of an evaluation. @throws ProductError `cancelled`, `grader_failed` */
  async context(
    batches: readonly ArrayLike<number>[],
    run: ForwardRun,
    referenceOf: ReferenceOf,
  ): Promise<Pick<StepContext, 'groups'>> {
    const indices = batches.flatMap((batch) => Array.from(batch));
    const prompts = indices.map((index) => ({ ids: this.#examples.prompt(index), line: this.#examples.lineOf(index) }));
    const groups = new Map<number, JudgedAnswer[]>();
    const judged = this.#judged(prompts, await this.#source.of(prompts, run));
    for (const [place, index] of indices.entries()) groups.set(index, judged[place]!);
    if (run.step == null || this.#settings.kl_weight === 0) return { groups };
    for (const batch of batches) {
      const own = this.batch(batch, { groups });
      for (const [place, reference] of (await referenceOf(own, run)).entries()) {
        own.answers[place]!.answer.reference = reference;
      }
    }
    return { groups };
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
    return groups.map((group, place) =>
      group.map((answer) => ({
        ...answer,
        prompt: prompts[place]!.ids,
        advantage: values[next++]!,
        isFlat: isFlat[place]!,
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
  const tokens = tokenBatchOf(
    given.map(({ answer: { prompt, ids } }) => {
      const whole = new Int32Array(prompt.length + ids.length);
      whole.set(prompt);
      whole.set(ids, prompt.length);
      return { ids: whole, trained: new Uint8Array(whole.length).fill(1, prompt.length) };
    }),
    alike,
  );
  const ranges = rangesOf(tokens.order.map((place) => given[place]!.answer.ids.length));
  const first: number[] = [];
  for (const [place, sequence] of tokens.order.entries()) first[sequence] = ranges[place]!.first;
  return { tokens, answers: given.map((one, place) => ({ ...one, first: first[place]! })) };
}
