import { type Static, Type } from 'typebox';
import { ProductError } from './error.js';
import { Grader } from './grading.js';
import type { ObjectiveContract } from './objective-contract.js';
import { PREFERENCE_LEARNING_RATE } from './preference.js';
import { closed, Nullable } from './schema-parts.js';

export const NORMALIZATIONS = ['dapo', 'grpo', 'dr_grpo'] as const;
export const REWARD_SCALES = ['group', 'batch', 'none'] as const;

/** Most answers of a group. */
const MAX_GROUP = 64;
const MAX_COMPLETION_TOKENS = 4096;
/** Updates from the same answers. */
const MAX_UPDATES = 16;

/** The kind in words. */
export const GROUP_RELATIVE_KIND =
  'group-relative: to make answers with a high reward more likely than others to the same prompt.';

/** The objective of a job on prompts whose answers are sampled and graded (GRPO, arXiv:2402.03300). Defaults are those of TRL's trainer. */
export const GroupRelativeObjective = Type.Object(
  {
    kind: Type.Enum(['group-relative'], { description: GROUP_RELATIVE_KIND }),
    grader: Grader,
    group_size: Type.Integer({
      minimum: 2,
      maximum: MAX_GROUP,
      default: 8,
      description: 'Answers that are sampled to each prompt, at temperature 1.',
    }),
    max_completion_tokens: Type.Integer({
      minimum: 1,
      maximum: MAX_COMPLETION_TOKENS,
      default: 512,
      description: 'Maximum tokens of a sampled answer. Prompt and answer together are bounded by max_seq_length.',
    }),
    normalization: Type.Enum([...NORMALIZATIONS], {
      default: 'dapo',
      description:
        'What the sum over tokens is divided by. dapo (arXiv:2503.14476): the tokens of the step. grpo: the tokens of each answer, then the answers. dr_grpo (arXiv:2503.20783): answers times max_completion_tokens.',
    }),
    scale_rewards: Type.Enum([...REWARD_SCALES], {
      default: 'group',
      description:
        "Rewards less the mean of their group are divided by the standard deviation of the group, of all rewards of the step, or (none, Dr. GRPO's) not divided.",
    }),
    clip_low: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: 0.2,
      description: 'How far below 1 the ratio of probabilities counts. Matters with updates_per_batch above 1.',
    }),
    clip_high: Nullable(Type.Number({ minimum: 0, maximum: 100 }), {
      default: null,
      description: 'The same above 1; null: clip_low.',
    }),
    kl_weight: Type.Number({
      minimum: 0,
      maximum: 1000,
      default: 0,
      description: 'The weight of the divergence from the reference: the base model, or the adapter of init_from.',
    }),
    updates_per_batch: Type.Integer({
      minimum: 1,
      maximum: MAX_UPDATES,
      default: 1,
      description: 'Steps that train on the same answers before others are sampled.',
    }),
  },
  { $id: 'GroupRelativeObjective', ...closed },
);
export type GroupRelativeObjective = Static<typeof GroupRelativeObjective>;

/** The rows per micro-batch and micro-batches per step of a job that names none: one group in each pass. */
export const GROUP_BATCH = { batch_size: 1, gradient_accumulation_steps: 8 } as const;

/** An objective of rewards with its defaults. @throws ProductError `invalid_request` without a grader */
function complete({ grader, ...given }: Partial<Omit<GroupRelativeObjective, 'kind'>>): GroupRelativeObjective {
  if (grader === undefined) {
    const message = 'objective.grader is missing: the objective group-relative needs what gives answers their rewards.';
    throw new ProductError('invalid_request', message, { param: 'objective.grader' });
  }
  return {
    kind: 'group-relative',
    grader,
    group_size: given.group_size ?? 8,
    max_completion_tokens: given.max_completion_tokens ?? 512,
    normalization: given.normalization ?? 'dapo',
    scale_rewards: given.scale_rewards ?? 'group',
    clip_low: given.clip_low ?? 0.2,
    clip_high: given.clip_high ?? null,
    kl_weight: given.kl_weight ?? 0,
    updates_per_batch: given.updates_per_batch ?? 1,
  };
}

/** Users of an adapter need not know where its maker has answers graded. */
function publicSettings(settings: GroupRelativeObjective): GroupRelativeObjective {
  const { url: _, ...grader } = settings.grader;
  return { ...settings, grader };
}

/** The contract of the objective of rewards. */
export const groupRelativeContract = {
  kind: 'group-relative',
  schema: GroupRelativeObjective,
  description: GROUP_RELATIVE_KIND,
  rows: 'prompts with a reference for graders',
  training: { learning_rate: PREFERENCE_LEARNING_RATE, ...GROUP_BATCH },
  changesLoss: false,
  method: 'reinforcement',
  complete,
  rewards: ({ grader, group_size, updates_per_batch }) => ({ grader, answers: group_size, updates: updates_per_batch }),
  publicSettings,
} as const satisfies ObjectiveContract<GroupRelativeObjective>;

/** Rounds of sampled answers that are events of a job. */
export const MAX_ANSWER_ROUNDS = 200;
/** Answers of a round. */
export const MAX_ROUND_ANSWERS = 8;
/** UTF-16 units of each of its texts, which ends there. */
export const MAX_ROUND_TEXT = 512;
/** Limits, for docs/limits.md. */
export const answerRoundLimits = {
  rounds: { value: MAX_ANSWER_ROUNDS, unit: 'events, about', beyond: 'those of steps between them are left out' },
  answers: { value: MAX_ROUND_ANSWERS, unit: 'answers', beyond: 'they are left out' },
  text: { value: MAX_ROUND_TEXT, unit: 'characters', beyond: 'it is cut' },
};

/** Some of the answers that a step was trained on: the first ones to its first prompt. */
export const AnswerRound = Type.Object(
  {
    step: Type.Integer({ minimum: 1, description: 'The first step that trains on them.' }),
    line: Type.Integer({ minimum: 1, description: 'The line of the prompt in the dataset.' }),
    prompt: Type.String({ description: 'The end of the prompt, as the model reads it.' }),
    answers: Type.Array(
      Type.Object(
        {
          text: Type.String(),
          tokens: Type.Integer({ minimum: 0, description: 'With the one that ends it.' }),
          reward: Type.Number(),
          finish_reason: Type.Enum(['stop', 'length'], { description: 'length: it, or its text here, was cut.' }),
        },
        closed,
      ),
      { maxItems: MAX_ROUND_ANSWERS },
    ),
    judge_tokens: Type.Optional(
      Type.Integer({
        minimum: 0,
        description: 'Tokens that a judge has read and written for rewards since the event before.',
      }),
    ),
  },
  { $id: 'AnswerRound', ...closed },
);
export type AnswerRound = Static<typeof AnswerRound>;

const mean = (description: string) => Type.Number({ description });

/** Means over the sampled answers of a step or of an evaluation, by the names that TRL has for them. */
export const GroupMetrics = Type.Object(
  {
    reward: mean('Mean reward of the answers.'),
    reward_std: mean('Standard deviation of the rewards.'),
    frac_reward_zero_std: mean('Share of the groups whose answers all have the same reward: they train nothing.'),
    'completions/mean_length': mean('Tokens of an answer, with the one that ends it.'),
    'completions/clipped_ratio': mean('Share of the answers that max_completion_tokens cut.'),
    'clip_ratio/region_mean': Type.Optional(
      mean('Share of the tokens whose ratio is clipped: they train nothing. Absent in an evaluation.'),
    ),
    kl: Type.Optional(mean('Divergence from the reference, with a kl_weight above 0. Absent in an evaluation.')),
  },
  { $id: 'GroupMetrics', ...closed },
);
export type GroupMetrics = Static<typeof GroupMetrics>;
