import { type Static, Type } from 'typebox';
import type { ObjectiveContract } from './objective-contract.js';
import { closed } from './schema-parts.js';

/** Losses that compare with a reference: the base model, or the adapter that the job began from. */
const REFERENCE_LOSSES = ['sigmoid', 'ipo', 'hinge', 'robust', 'apo_zero', 'sigmoid_norm'] as const;
/** Losses of two answers to a prompt, by the names that TRL has for them. */
export const PAIR_LOSSES = [...REFERENCE_LOSSES, 'orpo', 'cpo', 'simpo'] as const;
export type PairLossName = (typeof PAIR_LOSSES)[number];
/** Losses of an answer with a label, by the names that TRL has for them. They compare with a reference. */
export const LABEL_LOSSES = ['kto', 'apo_zero_unpaired'] as const;
export type LabelLossName = (typeof LABEL_LOSSES)[number];
/** The losses of preferences. */
export const PREFERENCE_LOSSES = [...PAIR_LOSSES, ...LABEL_LOSSES] as const;
export type PreferenceLoss = (typeof PREFERENCE_LOSSES)[number];

/** True if a loss compares with a reference. */
export function hasReference(loss: PreferenceLoss): boolean {
  return isLabelLoss(loss) || (REFERENCE_LOSSES as readonly string[]).includes(loss);
}

/** True if a loss is of answers with a label, not of pairs. */
export function isLabelLoss(loss: PreferenceLoss): loss is LabelLossName {
  return (LABEL_LOSSES as readonly string[]).includes(loss);
}

/** Losses that take `label_smoothing`. */
export const SMOOTHED_LOSSES: readonly PreferenceLoss[] = ['robust', 'cpo', 'simpo'];

/** The learning rate of a job with an objective that names none. */
export const PREFERENCE_LEARNING_RATE = 5e-6;

/** The weight of the answers with one label, in the loss. */
const labelWeight = (label: boolean) =>
  Type.Number({
    minimum: 0,
    maximum: 1000,
    default: 1,
    description: `The factor of the loss of answers with the label ${label}. For kto and apo_zero_unpaired.`,
  });

/** The kind in words. */
export const PREFERENCE_KIND =
  'preference: to prefer the chosen of two answers, or answers with the label true to those with false.';

/**
 * The objective of a job on pairs of answers, or on answers with a label. Losses and defaults are those of TRL's DPO, CPO, ORPO and KTO
 * trainers.
 */
export const PreferenceObjective = Type.Object(
  {
    kind: Type.Enum(['preference'], { description: PREFERENCE_KIND }),
    loss: Type.Enum([...PREFERENCE_LOSSES], {
      default: 'sigmoid',
      description:
        'sigmoid: DPO (arXiv:2305.18290). ipo, hinge, robust, apo_zero, sigmoid_norm (a DPO per token): the same rewards in other losses. ' +
        'orpo, cpo, simpo: without a reference. kto (arXiv:2402.01306), apo_zero_unpaired: of answers with a label.',
    }),
    beta: Type.Number({
      exclusiveMinimum: 0,
      maximum: 1000,
      default: 0.1,
      description:
        'The factor of rewards: the larger, the closer to the reference. orpo: the weight of the odds ratio.',
    }),
    label_smoothing: Type.Number({
      minimum: 0,
      exclusiveMaximum: 0.5,
      default: 0,
      description: 'The share of pairs that is expected to be the wrong way round. For robust, cpo and simpo.',
    }),
    sft_weight: Type.Number({
      minimum: 0,
      maximum: 1000,
      description:
        'The weight of the mean cross entropy of the chosen answers, which is added to the loss (RPO); for orpo of prompt and chosen answer. Default: 1 for orpo and cpo, else 0.',
    }),
    gamma: Type.Number({
      minimum: 0,
      maximum: 1000,
      description: 'The margin that simpo wants between the rewards. Default: 0.5 for simpo, else 0.',
    }),
    desirable_weight: labelWeight(true),
    undesirable_weight: labelWeight(false),
  },
  { $id: 'PreferenceObjective', ...closed },
);
export type PreferenceObjective = Static<typeof PreferenceObjective>;

/** An objective of preferences with its defaults, some of which depend on the loss. */
function complete({ loss = 'sigmoid', ...given }: Partial<Omit<PreferenceObjective, 'kind'>>): PreferenceObjective {
  return {
    kind: 'preference',
    loss,
    beta: given.beta ?? 0.1,
    label_smoothing: given.label_smoothing ?? 0,
    sft_weight: given.sft_weight ?? (loss === 'orpo' || loss === 'cpo' ? 1 : 0),
    gamma: given.gamma ?? (loss === 'simpo' ? 0.5 : 0),
    desirable_weight: given.desirable_weight ?? 1,
    undesirable_weight: given.undesirable_weight ?? 1,
  };
}

/** The contract of the objective of preferences. */
export const preferenceContract = {
  kind: 'preference',
  schema: PreferenceObjective,
  description: PREFERENCE_KIND,
  rows: 'pairs of a chosen and a rejected answer, or on answers with a label',
  training: { learning_rate: PREFERENCE_LEARNING_RATE },
  changesLoss: true,
  method: 'dpo',
  complete,
  beta: ({ beta }) => beta,
} as const satisfies ObjectiveContract<PreferenceObjective>;

const mean = (description: string) => Type.Number({ description });

/** A mean over the answers of one kind. */
const meanOfSome = (description: string) => Type.Optional(mean(description));

/** Means over pairs or over answers with a label, by the names that TRL has for them. */
export const PreferenceMetrics = Type.Object(
  {
    'rewards/chosen': meanOfSome(
      "beta times the log-probability of the chosen answer, less the reference's where there is one. Answers with the label true count as chosen, those with false as rejected; what no answer of a step has is absent.",
    ),
    'rewards/rejected': meanOfSome('The same of the rejected answer.'),
    'rewards/accuracies': mean(
      'Share of the pairs whose chosen answer has the higher reward; of answers with a label, of which the reward is above beta times kl if it is true, below if it is false.',
    ),
    'rewards/margins': meanOfSome('By how much the reward of the chosen answer is higher.'),
    'logps/chosen': meanOfSome('Log-probability of the chosen answer; of a token of it for orpo and simpo.'),
    'logps/rejected': meanOfSome('The same of the rejected answer.'),
    kl: Type.Optional(
      mean(
        'Of answers with a label: by how much the model is estimated to differ from the reference, from answers to other prompts of the step. 0 for apo_zero_unpaired.',
      ),
    ),
    nll_loss: Type.Optional(mean('Mean cross entropy of what sft_weight counts; absent where that is 0.')),
    log_odds_ratio: Type.Optional(mean('Of orpo: logarithm of the logistic function of log_odds_chosen.')),
    log_odds_chosen: Type.Optional(mean('Of orpo: logarithm of the ratio of the odds of both answers.')),
  },
  { $id: 'PreferenceMetrics', ...closed },
);
export type PreferenceMetrics = Static<typeof PreferenceMetrics>;
