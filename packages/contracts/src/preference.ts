import { type Static, Type } from 'typebox';
import { closed } from './schema-parts.js';

/** Losses that compare with a reference: the base model, or the adapter that the job began from. */
const REFERENCE_LOSSES = ['sigmoid', 'ipo', 'hinge', 'robust', 'apo_zero', 'sigmoid_norm'] as const;
/** The losses of preferences, by the names that TRL has for them. */
export const PREFERENCE_LOSSES = [...REFERENCE_LOSSES, 'orpo', 'cpo', 'simpo'] as const;
export type PreferenceLoss = (typeof PREFERENCE_LOSSES)[number];

/** Whether a loss compares with a reference. */
export function hasReference(loss: PreferenceLoss): boolean {
  return (REFERENCE_LOSSES as readonly string[]).includes(loss);
}

/** Losses that take `label_smoothing`. */
export const SMOOTHED_LOSSES: readonly PreferenceLoss[] = ['robust', 'cpo', 'simpo'];

/** The learning rate of a job on preferences that names none. */
export const PREFERENCE_LEARNING_RATE = 5e-6;

/** The objective of a job on pairs of answers. Losses and defaults are those of TRL's DPO, CPO and ORPO trainers. */
export const PreferenceObjective = Type.Object(
  {
    kind: Type.Enum(['preference'], { description: 'preference: to prefer the chosen of two answers.' }),
    loss: Type.Enum([...PREFERENCE_LOSSES], {
      default: 'sigmoid',
      description:
        'sigmoid: DPO (arXiv:2305.18290). ipo, hinge, robust, apo_zero, sigmoid_norm (a DPO per token): the same rewards in other losses. ' +
        'orpo, cpo, simpo: without a reference.',
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
  },
  { $id: 'PreferenceObjective', ...closed },
);
export type PreferenceObjective = Static<typeof PreferenceObjective>;

const { kind, ...settings } = PreferenceObjective.properties;

/** The objective of a job as it is asked for: everything but the kind has a default. */
export const ObjectiveRequest = Type.Object(
  { kind, ...Type.Partial(Type.Object(settings)).properties },
  { $id: 'ObjectiveRequest', ...closed },
);
export type ObjectiveRequest = Static<typeof ObjectiveRequest>;

/** The objective with its defaults, some of which depend on the loss. */
export function objectiveOf({ loss = 'sigmoid', ...given }: ObjectiveRequest): PreferenceObjective {
  return {
    kind: 'preference',
    loss,
    beta: given.beta ?? 0.1,
    label_smoothing: given.label_smoothing ?? 0,
    sft_weight: given.sft_weight ?? (loss === 'orpo' || loss === 'cpo' ? 1 : 0),
    gamma: given.gamma ?? (loss === 'simpo' ? 0.5 : 0),
  };
}

const mean = (description: string) => Type.Number({ description });

/** Means over pairs, by the names that TRL has for them. */
export const PreferenceMetrics = Type.Object(
  {
    'rewards/chosen': mean(
      "beta times the log-probability of the chosen answer, less the reference's where there is one.",
    ),
    'rewards/rejected': mean('The same of the rejected answer.'),
    'rewards/accuracies': mean('Share of the pairs whose chosen answer has the higher reward.'),
    'rewards/margins': mean('By how much it is higher.'),
    'logps/chosen': mean('Log-probability of the chosen answer; of a token of it for orpo and simpo.'),
    'logps/rejected': mean('The same of the rejected answer.'),
    nll_loss: Type.Optional(mean('Mean cross entropy of what sft_weight counts; absent where that is 0.')),
    log_odds_ratio: Type.Optional(mean('Of orpo: logarithm of the logistic function of log_odds_chosen.')),
    log_odds_chosen: Type.Optional(mean('Of orpo: logarithm of the ratio of the odds of both answers.')),
  },
  { $id: 'PreferenceMetrics', ...closed },
);
export type PreferenceMetrics = Static<typeof PreferenceMetrics>;
