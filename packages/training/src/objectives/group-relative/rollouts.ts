import { type Rollout, type RolloutAnswer, type RolloutGroups, readRollout, writeRollout } from '@lorasmith/artifacts';
import {
  type AnswerRound,
  type GroupRelativeObjective,
  MAX_ROUND_ANSWERS,
  MAX_ROUND_TEXT,
  ProductError,
} from '@lorasmith/contracts';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import type { Decoder, ModelAdapter } from '@lorasmith/models';
import { rolloutLoad, sampleCacheTokens } from '@lorasmith/planning';
import { SeededRandom } from '@lorasmith/seeded-random';
import { generateAnswers, shownAnswer, textOfIds } from '../../sampler.js';
import type { Participant } from '../../shared-pass/pass-scheduler.js';
import type { ForwardRun } from '../objective.js';
import type { GradedAnswer, RolloutPrompt, SampledAnswer } from './group-loss.js';
import type { RewardSource } from './reward-source.js';
import type { ReadAnswers } from './sampled-groups.js';

export interface RolloutOptions {
  base: Decoder;
  text: ModelText;
  settings: GroupRelativeObjective;
  rewards: RewardSource;
  /** The seed of the job, which draws depend on. */
  seed: number;
  /** Prompts whose answers are sampled at once. */
  promptsAtOnce: number;
  /** The folder of the answers of the present step, and the identity of the run that they are kept under. */
  kept: { folder: string; run: string };
  passes: Pick<Participant, 'concurrently'>;
  /** Batches of answers of which some are shown: one of so many. */
  shownEvery: number;
  /** Called with them, before they are trained on. */
  onAnswers(round: AnswerRound): void;
}

/** The largest reward. Next to a larger one, others would be lost in rounding. */
const MAX_REWARD = 1e6;

/** Samples answers to prompts, and has them graded. */
export class Rollouts {
  readonly #options: RolloutOptions;
  #resumed: Rollout | null = null;

  constructor(options: RolloutOptions) {
    this.#options = options;
  }

  /** Takes the answers of the checkpoint from which the run continues. */
  resume(rollout: Rollout | null): void {
    this.#resumed = rollout;
  }

  /** The answers that a step trains on, where they were sampled before it. @param step from 0 */
  async known(step: number): Promise<Rollout | null> {
    const { settings, kept, passes } = this.#options;
    const batch = Math.floor(step / settings.updates_per_batch);
    const written = await passes.concurrently(() => readRollout(kept.folder, { run: kept.run, batch }));
    return written ?? (this.#resumed?.batch === batch ? this.#resumed : null);
  }

  /**
   * The graded answers to some prompts by the adapter as it is: draws depend on the seed, the batch and the line alone. Those of a step are
   * kept in a file, first without their rewards, so that a resumed run neither samples nor grades them again, and further steps train on the same.
   * @param read is called with new answers of a step before they are kept
   * @throws ProductError `cancelled`, `non_finite_loss`, `grader_failed`, `storage_full`
   */
  async of(prompts: readonly RolloutPrompt[], run: ForwardRun, read: ReadAnswers): Promise<GradedAnswer[][]> {
    const { settings, kept, passes, shownEvery, onAnswers } = this.#options;
    const { step = null } = run;
    if (step === null) return await this.#graded(prompts, await this.#answered(prompts, run, 'evaluation'), run);
    const batch = Math.floor(step / settings.updates_per_batch);
    const known = await this.known(step);
    if (known?.kind === 'graded') return known.groups.map((group) => group.map(gradedOf));
    const keep = (groups: RolloutGroups) =>
      passes.concurrently(() => writeRollout(kept.folder, { run: kept.run, batch, ...groups }));
    const sampled =
      known?.groups.map((group) => group.map(sampledOf)) ?? (await this.#answered(prompts, run, `batch ${batch}`));
    if (known === null) {
      await read(sampled);
      await keep({ kind: 'sampled', groups: sampled.map((group) => group.map(storedOf)) });
    }
    const graded = await this.#graded(prompts, sampled, run);
    const groups = graded.map((group) => group.map((answer) => ({ ...storedOf(answer), reward: answer.reward })));
    await keep({ kind: 'graded', groups });
    if (batch % shownEvery === 0) {
      const judgeTokens = this.#options.rewards.takeJudgeTokens();
      const round = this.#roundOf(prompts[0]!, graded[0]!, step + 1);
      onAnswers({ ...round, ...(judgeTokens !== null && { judge_tokens: judgeTokens }) });
    }
    return graded;
  }

  async #answered(prompts: readonly RolloutPrompt[], run: ForwardRun, stream: string): Promise<SampledAnswer[][]> {
    const { promptsAtOnce } = this.#options;
    const groups: SampledAnswer[][] = [];
    for (let first = 0; first < prompts.length; first += promptsAtOnce) {
      groups.push(...(await this.#sampled(prompts.slice(first, first + promptsAtOnce), run, stream)));
    }
    return groups;
  }

  async #sampled(prompts: readonly RolloutPrompt[], run: ForwardRun, stream: string): Promise<SampledAnswer[][]> {
    const { base, text, settings, seed } = this.#options;
    const { group_size: choices, max_completion_tokens: maxNewTokens } = settings;
    const adapter = (run.adapters[0]?.adapter ?? null) as ModelAdapter | null;
    const stopIds = stopTokenIds(base.architecture, text.tokenizer);
    const requests = prompts.map(({ ids: promptIds, line }) => {
      const sampling = { temperature: 1, topP: 1, seed: seedOf(seed, `${stream} line ${line}`) };
      return { promptIds, adapter, maxNewTokens, stopIds, choices, sampling, logprobs: 0 };
    });
    const load = rolloutLoad(
      { most: maxNewTokens, choices },
      prompts.map(({ ids }) => ids),
    );
    const memory = { cacheTokens: sampleCacheTokens(load), maxTexts: choices * prompts.length };
    const answers = await generateAnswers(base, requests, { ...memory, inEngineCall: run.passes.inEngineCall });
    return answers.map((group) =>
      group.map(({ ids, logProbabilities, hasEnded }) => ({
        ids: Int32Array.from(ids),
        logProbabilities: Float32Array.from(logProbabilities),
        hasEnded,
      })),
    );
  }

  async #graded(
    prompts: readonly RolloutPrompt[],
    groups: readonly SampledAnswer[][],
    run: ForwardRun,
  ): Promise<GradedAnswer[][]> {
    const { text, rewards: source } = this.#options;
    const answered = groups.map((answers, position) => ({ line: prompts[position]!.line, answers }));
    const rewards = await source.of(answered, run);
    return answered.map(({ line, answers }, position) =>
      answers.map((answer, choice) => {
        const reward = rewards[position]![choice]!;
        if (Math.abs(reward) <= MAX_REWARD) return { ...answer, reward };
        const said = JSON.stringify(textOfIds(answer.ids, text).slice(0, 200));
        const message = `The grader gives the reward ${reward} to an answer to line ${line}: ${said}. A reward is a number from -${MAX_REWARD} to ${MAX_REWARD}. Correct the grader: a formula must divide by nothing that may be 0.`;
        throw new ProductError('grader_failed', message, { param: 'objective.grader' });
      }),
    );
  }

  /** @param step from 1 */
  #roundOf({ ids, line }: RolloutPrompt, answers: readonly GradedAnswer[], step: number): AnswerRound {
    const { text } = this.#options;
    const prompt = textOfIds(ids, text)
      .slice(-MAX_ROUND_TEXT)
      .replace(/^[\udc00-\udfff]/, '');
    return {
      step,
      line,
      prompt,
      answers: answers.slice(0, MAX_ROUND_ANSWERS).map((answer) => ({
        ...shownAnswer(answer, text, MAX_ROUND_TEXT),
        reward: answer.reward,
      })),
    };
  }
}

function seedOf(seed: number, stream: string): number {
  return Math.floor(new SeededRandom(seed, `answers of ${stream}`).next() * 2 ** 32);
}

function storedOf({ ids, logProbabilities, hasEnded }: SampledAnswer): RolloutAnswer {
  return { ids: [...ids], log_probabilities: [...logProbabilities], has_ended: hasEnded };
}

function sampledOf({ ids, log_probabilities: logProbabilities, has_ended: hasEnded }: RolloutAnswer): SampledAnswer {
  return { ids: Int32Array.from(ids), logProbabilities: Float32Array.from(logProbabilities), hasEnded };
}

function gradedOf(answer: RolloutAnswer & { reward: number }): GradedAnswer {
  return { ...sampledOf(answer), reward: answer.reward };
}
