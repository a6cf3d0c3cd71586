import { type RolloutAnswer, readRollout, writeRollout } from '@lorasmith/artifacts';
import { type GroupRelativeObjective, ProductError } from '@lorasmith/contracts';
import type { CompiledGrader } from '@lorasmith/graders';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import type { Decoder, ModelAdapter } from '@lorasmith/models';
import { type GradedRows, rolloutLoad, sampleCacheTokens } from '@lorasmith/planning';
import { SeededRandom } from '@lorasmith/seeded-random';
import { type GeneratedAnswer, generateAnswers } from '../../generate-answers.js';
import type { Participant } from '../../shared-pass/pass-scheduler.js';
import type { ForwardRun } from '../step-context.js';
import type { GradedAnswer, RolloutPrompt } from './graded-answer.js';

export interface RolloutOptions {
  base: Decoder;
  text: ModelText;
  settings: GroupRelativeObjective;
  grader: CompiledGrader;
  /** The rows of the prompts. */
  rows: GradedRows;
  /** The seed of the job, which draws depend on. */
  seed: number;
  /** Prompts whose answers are sampled at once. */
  promptsAtOnce: number;
  /** Where the answers of the present step are kept, under the identity of the run. */
  kept: { folder: string; run: string };
  passes: Pick<Participant, 'beside'>;
}

/** More would be added to others as noise, or nothing beside it. */
const MAX_REWARD = 1e6;

/** Samples answers to prompts, and has them graded. */
export class Rollouts {
  readonly #options: RolloutOptions;

  constructor(options: RolloutOptions) {
    this.#options = options;
  }

  /**
   * The graded answers to some prompts by the adapter as it is: draws depend on the seed, the batch and the line alone. Those of a step are
   * kept in a file, so that a resumed run neither samples nor grades them again, and further steps train on the same.
   * @throws ProductError `cancelled`, `non_finite_loss`, `grader_failed`, `storage_full`
   */
  async of(prompts: readonly RolloutPrompt[], run: ForwardRun): Promise<GradedAnswer[][]> {
    const { settings, kept, passes } = this.#options;
    const { step = null } = run;
    if (step === null) return await this.#answered(prompts, run, 'evaluation');
    const batch = Math.floor(step / settings.updates_per_batch);
    const known = await passes.beside(() => readRollout(kept.folder, { run: kept.run, batch }));
    if (known !== null) return known.map((group) => group.map(answerOf));
    const groups = await this.#answered(prompts, run, `batch ${batch}`);
    const rollout = { run: kept.run, batch, groups: groups.map((group) => group.map(storedOf)) };
    await passes.beside(() => writeRollout(kept.folder, rollout));
    return groups;
  }

  async #answered(prompts: readonly RolloutPrompt[], run: ForwardRun, stream: string): Promise<GradedAnswer[][]> {
    const { promptsAtOnce } = this.#options;
    const groups: GradedAnswer[][] = [];
    for (let first = 0; first < prompts.length; first += promptsAtOnce) {
      groups.push(...(await this.#sampled(prompts.slice(first, first + promptsAtOnce), run, stream)));
    }
    return groups;
  }

  async #sampled(prompts: readonly RolloutPrompt[], run: ForwardRun, stream: string): Promise<GradedAnswer[][]> {
    const { base, text, settings, seed } = this.#options;
    const { group_size: choices, max_completion_tokens: maxNewTokens } = settings;
    const adapter = (run.adapters[0]?.adapter ?? null) as ModelAdapter | null;
    const stopIds = stopTokenIds(base.architecture, text.tokenizer);
    const requests = prompts.map(({ ids: promptIds, line }) => {
      const sampling = { temperature: 1, topP: 1, seed: seedOf(seed, `${stream} line ${line}`) };
      return { promptIds, adapter, maxNewTokens, stopIds, choices, sampling, logprobs: 0 };
    });
    const load = rolloutLoad(
      settings,
      prompts.map(({ ids }) => ids),
    );
    const memory = { cacheTokens: sampleCacheTokens(load), maxTexts: choices * prompts.length };
    const answers = await generateAnswers(base, requests, { ...memory, turn: run.passes.turn });
    const graded: GradedAnswer[][] = [];
    for (const [place, group] of answers.entries()) {
      const { line } = prompts[place]!;
      // Graders may take some milliseconds of each answer.
      graded.push(await run.passes.turn(0, () => group.map((answer) => this.#graded(answer, line))));
    }
    return graded;
  }

  #graded({ ids, logProbabilities, hasEnded }: GeneratedAnswer, line: number): GradedAnswer {
    const numbers = { ids: Int32Array.from(ids), logProbabilities: Float32Array.from(logProbabilities) };
    return { ...numbers, hasEnded, reward: this.#rewardOf(ids, line) };
  }

  #rewardOf(ids: readonly number[], line: number): number {
    const { text, grader, rows } = this.#options;
    const answer = text.tokenizer.decode([...ids], { skipSpecialTokens: true });
    const reward = grader.grade({ item: rows.at(line), text: answer });
    if (Math.abs(reward) <= MAX_REWARD) return reward;
    const message = `The grader gives the reward ${reward} to an answer to line ${line}: ${JSON.stringify(answer.slice(0, 200))}. A reward is a number from -${MAX_REWARD} to ${MAX_REWARD}. Correct the formula: divide by nothing that may be 0.`;
    throw new ProductError('grader_failed', message, { param: 'objective.grader' });
  }
}

function seedOf(seed: number, stream: string): number {
  return Math.floor(new SeededRandom(seed, `answers of ${stream}`).next() * 2 ** 32);
}

function storedOf({ ids, logProbabilities, hasEnded, reward }: GradedAnswer): RolloutAnswer {
  return { ids: [...ids], log_probabilities: [...logProbabilities], has_ended: hasEnded, reward };
}

function answerOf({
  ids,
  log_probabilities: logProbabilities,
  has_ended: hasEnded,
  reward,
}: RolloutAnswer): GradedAnswer {
  return { ids: Int32Array.from(ids), logProbabilities: Float32Array.from(logProbabilities), hasEnded, reward };
}
