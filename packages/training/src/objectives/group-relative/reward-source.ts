import { mapWithConcurrency, untilAborted } from '@lorasmith/concurrency';
import {
  type GradingBatch,
  type GradingOutcome,
  jsonOfNumbers,
  MAX_GRADED_BYTES,
  ProductError,
} from '@lorasmith/contracts';
import type { CompiledGrader, OutsideGrader } from '@lorasmith/graders';
import type { ModelText } from '@lorasmith/model-folder';
import type { GradedRows } from '@lorasmith/planning';
import { textOfIds } from '../../sampler.js';
import { throwIfStopped } from '../../shared-pass/engine-time.js';
import type { ForwardRun } from '../objective.js';
import type { SampledAnswer } from './group-loss.js';

/** The sampled answers to the prompt of a line. */
export interface AnsweredPrompt {
  line: number;
  answers: readonly SampledAnswer[];
}

/** A source of rewards: a grader that calculates them here, or one that is asked. */
export interface RewardSource {
  /**
   * The rewards of the answers to each prompt. They may be no finite numbers.
   * @throws ProductError `cancelled`, `grader_failed`
   */
  of(prompts: readonly AnsweredPrompt[], run: Pick<ForwardRun, 'passes' | 'step'>): Promise<number[][]>;
  /** Tokens that a judge has read and written since the call before; null: none has. */
  takeJudgeTokens(): number | null;
}

/** The facts about answers that graders read, besides their tokens. */
export interface AnswerTexts {
  text: ModelText;
  /** The rows of the prompts. */
  rows: GradedRows;
}

/** Calculates rewards in this process, between the passes of other jobs: those of a group at a time. */
export function calculatedRewards(grader: CompiledGrader, { text, rows }: AnswerTexts): RewardSource {
  return {
    async of(prompts, { passes }) {
      const rewards: number[][] = [];
      for (const { line, answers } of prompts) {
        const item = rows.at(line);
        // Graders may take some milliseconds of each answer.
        rewards.push(
          await passes.inEngineCall(0, () =>
            answers.map(({ ids }) => grader.grade({ item, text: textOfIds(ids, text) })),
          ),
        );
      }
      return rewards;
    },
    takeJudgeTokens: () => null,
  };
}

/**
 * Has a grader outside of this process reward some answers. Batches that are equal, also those of a process before, may get the same rewards
 * without a second request. It is bounded in time.
 */
export type AskGrader = (batch: GradingBatch) => Promise<GradingOutcome>;

/** Requests of a step that are under way at once. */
const AT_ONCE = 4;

/** Has a grader outside of this process give rewards. Other jobs compute meanwhile, and nothing of this one is in the way of theirs. */
export function askedRewards(
  ask: AskGrader,
  grader: OutsideGrader,
  { text, rows, signal }: AnswerTexts & { signal: AbortSignal },
): RewardSource {
  let judgeTokens: number | null = null;
  const rewardsOf = async (batch: GradingBatch): Promise<number[]> => {
    throwIfStopped(signal);
    const outcome = await untilAborted(ask(batch), signal);
    throwIfStopped(signal);
    if (outcome?.kind === 'graded') {
      if (outcome.judgeTokens !== undefined) judgeTokens = (judgeTokens ?? 0) + outcome.judgeTokens;
      return outcome.rewards;
    }
    throw new ProductError('grader_failed', outcome?.message ?? '', { param: 'objective.grader' });
  };
  const itemsOf = ({ line, answers }: AnsweredPrompt): string[] => {
    const item = rows.at(line);
    return answers.map(({ ids, hasEnded }) =>
      jsonOfNumbers(grader.itemOf({ line, item, text: textOfIds(ids, text), tokens: ids.length, hasEnded })),
    );
  };
  return {
    async of(prompts, { step = null, passes }) {
      const items: string[] = [];
      for (const prompt of prompts) items.push(...(await passes.inEngineCall(0, () => itemsOf(prompt))));
      const of = { step: step === null ? null : step + 1 };
      const batches = batchesOf(items, grader.most).map((some) => ({ ...of, items: some }));
      const rewards = (await mapWithConcurrency(batches, AT_ONCE, rewardsOf)).flat();
      let next = 0;
      return prompts.map(({ answers }) => answers.map(() => rewards[next++]!));
    },
    takeJudgeTokens() {
      const taken = judgeTokens;
      judgeTokens = null;
      return taken;
    },
  };
}

/** Items, as JSON, in their order, cut by the bounds of a request. */
function batchesOf(items: readonly string[], most: number): string[][] {
  const batches: string[][] = [];
  let bytes = 0;
  for (const item of items) {
    const size = Buffer.byteLength(item);
    const last = batches.at(-1);
    if (last !== undefined && last.length < most && bytes + size <= MAX_GRADED_BYTES) {
      last.push(item);
      bytes += size;
    } else {
      batches.push([item]);
      bytes = size;
    }
  }
  return batches;
}
